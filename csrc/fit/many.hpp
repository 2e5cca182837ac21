// Many independent problems, each fitted to its end with the bits of fitting it alone.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "fit/cholesky.hpp"
#include "fit/curvature.hpp"
#include "fit/descent.hpp"
#include "fit/exact.hpp"
#include "fit/lanes.hpp"

namespace gdcore {

// Where the rows of each problem lie. Either arrays with a leading dimension, so many elements from
// problem to problem; or one array, of which problem i has rows [starts[i], starts[i+1]) of
// `order`.
template <class T>
struct ManyRows {
  int64_t count;
  Problem<T> all;  // problem 0, or all rows
  int64_t X_step, y_step, offset_step, weight_step;
  std::vector<int64_t> starts;  // (count + 1), or none
  const int64_t* order;         // null: rows in their order
};

// One entry a problem; parameters (count, p) lie together.
template <class T>
struct ManyStates {
  std::vector<T> params, velocity;  // velocity (count, p) or nothing
  std::vector<uint8_t> moving;      // its velocity is one: a step was made
  std::vector<int64_t> epoch;
  std::vector<double> lr, momentum, r2_lost;
  std::vector<T> first_loss, last_loss, loss;
  std::vector<Outcome> outcome;
  std::vector<T> losses;  // (count, records), NaN where nothing was recorded
};

struct ManyOptions {
  DescentOptions common;
  int64_t epochs = 0, records = 0;
  std::vector<double> lr;                 // one each; or a schedule, one an epoch
  std::vector<double> momentum;           // one each
  std::vector<double> tol, weight_decay;  // one each
  std::vector<uint8_t> skip;              // one each
  bool auto_momentum = false;             // lr and momentum are those kept, or NaN: see auto_rates
  bool schedule = false;
  int64_t first_epoch = 0;  // that a schedule knows
};

template <class T>
class Many {
 public:
  // gram (count): where second moments stand for the rows, if they can. judged: moments are made of
  // all problems, since they tell when a descent has arrived. scaled: the columns are standardised.
  Many(ManyRows<T> rows, const std::vector<uint8_t>& gram, bool judged, bool scaled);
  ~Many();

  // What has to be known before the first step: true when done.
  bool survey(bool curvature, bool steepest, double seconds);
  std::vector<double> curvature, error, steepest;  // see Spectrum and largest_row
  std::vector<uint8_t> empty, finite, streamed;
  // Whose second moments are known.
  const std::vector<uint8_t>& known() const { return told_; }

  // Descends, but for the problems to skip; true when all have ended.
  void start(ManyOptions options, ManyStates<T> states);
  bool advance(double seconds);

  // Solves in closed form instead; of the options of `start`, the weight decay of each counts.
  bool solve(const ExactOptions& options, double seconds);
  std::vector<int64_t> rank;

  const ManyStates<T>& states();
  const std::vector<double>& rates() const { return options_.lr; }
  // (count, 2 d + t), see find_scaling; empty unless scaled.
  const std::vector<double>& scalings() const { return scalings_; }
  // Parameters of the states, as the caller gets them.
  std::vector<T> returned_params() const;
  int64_t done() const { return done_; }
  int64_t count() const { return rows_.count; }
  int64_t parameters() const { return rows_.all.size(); }

 private:
  struct One;
  struct Team;
  class Share;

  template <class Turn>
  bool on_threads(double seconds, Turn&& turn);
  template <class Work>
  bool in_turns(double seconds, Work&& work);

  struct Wanted {
    bool curvature, steepest;
  };
  void survey_lanes(Wanted wanted, Share& share);
  bool survey_one(int64_t i, Wanted wanted, Share& share);
  bool survey_stages(int64_t i, One& one, Wanted wanted, Budget& budget);
  void keep_moments(int64_t i, One& one);
  void find_quadratic(int64_t i, One& one) const;
  bool advance_one(int64_t i, Share& share);
  void descend(int64_t i, One& one);
  void advance_lanes(Share& share);
  void run(Team& team, Share& share);
  bool load_lane(Team& team, int64_t i, Share& share);
  void record(const Lanes<T>& descents, int lane, int64_t i, int64_t epochs);
  DescentOptions options_of(int64_t i) const;
  bool solve_one(int64_t i, ExactOptions options, Share& share);
  bool solve_moments(int64_t i, const ExactOptions& options, Share& share);
  void keep_solution(int64_t i, const std::vector<T>& params, int64_t rank_of_rows);
  void state_of(int64_t i, DescentState<T>& state) const;
  bool loss_known(const Lanes<T>& descents, int lane, int64_t i, int64_t epoch) const;
  void keep(int64_t i, const DescentState<T>& state, T loss, double r2_lost);
  void keep_descent(int64_t i, One& one);
  const double* scaling_at(int64_t i) const;
  bool needs_moments(int64_t i) const { return !streamed[i] || judged_ || scaled_; }
  void choose_rates(int64_t i, One& one);
  double norm_bound(int64_t i, const Objective& objective) const;
  void extend(int64_t i, One& one);
  double r2_lost(int64_t i, One& one) const;
  T loss_of_rows(int64_t i, Budget& budget) const;
  int64_t work_of_rows(int64_t i) const;

  ManyRows<T> rows_;
  ManyOptions options_;
  ManyStates<T> states_;
  std::vector<double> quadratics_;  // (count, stored_): see Quadratic::packed
  std::vector<double> scalings_;
  std::vector<uint8_t> told_;  // its moments are known
  bool judged_, scaled_;
  int64_t stored_ = 0, most_rows_ = 0;
  std::vector<std::unique_ptr<One>> ones_;  // under way

  std::mutex mutex_;  // of what follows
  int64_t next_ = 0, done_ = 0;
  std::vector<int64_t> paused_;
};

}  // namespace gdcore
