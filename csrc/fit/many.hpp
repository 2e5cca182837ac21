// Many independent problems, each fitted to its end with the bits of fitting it alone.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "fit/cholesky.hpp"
#include "fit/curvature.hpp"
#include "fit/descent.hpp"
#include "fit/exact.hpp"
#include "fit/inference.hpp"
#include "fit/many_rows.hpp"

namespace gdcore {

template <class T>
class Many {
 public:
  // gram (count): where second moments replace the rows, if they can. judged: moments are made of
  // all problems, since they tell when a descent has arrived. scaled: the columns are standardised.
  Many(ManyRows<T> rows, const std::vector<uint8_t>& gram, bool judged, bool scaled);
  ~Many();

  // Finds what the first step needs: true when done.
  bool prepare(bool curvature, bool steepest, double seconds);
  std::vector<double> curvature, error, steepest;  // see Spectrum and largest_row
  std::vector<uint8_t> empty, finite, from_rows;
  // The problems whose second moments are known.
  const std::vector<uint8_t>& known() const { return known_; }

  // Descends, but for the problems to skip; true when all have ended.
  void start(ManyOptions options, ManyStates<T> states);
  bool advance(double seconds);

  // Solves in closed form instead; of the options of `start`, the weight decay of each counts.
  bool solve(const ExactOptions& options, double seconds);
  std::vector<int64_t> rank;
  // Problems that need their rows, which are not sorted yet: moments stand for all others.
  std::vector<uint8_t> unsolved;
  Inferences inferences;  // of problems solved without weight decay; empty unless asked for

  // Problems in progress included.
  const ManyStates<T>& states();
  const std::vector<double>& rates() const { return options_.lr; }
  // (count, 2 d + t), see find_scaling; empty unless scaled.
  const std::vector<double>& scalings() const { return scalings_; }
  // Parameters of the states, as the caller gets them.
  std::vector<T> returned_params() const;
  int64_t done() const { return queue_.done; }
  int64_t count() const { return rows_.count; }
  int64_t parameters() const { return rows_.all.size(); }

 private:
  struct InProgress;
  struct Batch;
  struct WorkQueue {
    std::mutex mutex;
    int64_t next = 0, done = 0;                  // problems
    std::vector<std::unique_ptr<Batch>> paused;  // in the middle of something
    std::vector<std::unique_ptr<Batch>> unused;  // their memory serves again
  };

  template <class Work>
  bool in_batches(double seconds, Work&& work);
  std::unique_ptr<Batch> pop();
  void push(std::unique_ptr<Batch> batch, bool finished);
  template <class Work>
  bool one_by_one(Batch& batch, Budget& budget, Work&& work);
  template <class Work>
  bool beside_device(Batch& batch, Budget& budget, Work&& work);
  int64_t batch_size() const;

  struct Wanted {
    bool curvature, steepest;
  };
  bool prepare_batch(Batch& batch, Wanted wanted, Budget& budget);
  void sum_moments(Batch& batch, Budget& budget);
  void take_moments(Batch& batch);
  bool prepare_one(int64_t i, InProgress& one, bool summed, Wanted wanted, Budget& budget);
  bool needs_moments(int64_t i) const { return !from_rows[i] || judged_ || scaled_; }
  void keep_moments(int64_t i, const Moments& moments);
  void find_quadratic(int64_t i, Quadratic<T>& quadratic) const;

  bool descend_batch(Batch& batch, Budget& budget);
  bool suits_device(const Problem<T>& size, int64_t i) const;
  void collect_descents(Batch& batch, Budget& budget);
  bool run_on_device(Batch& batch, Budget& budget);
  void extend(int64_t i, Batch& batch);
  bool finish(int64_t i, Batch& batch, InProgress& one, Budget& budget);
  bool loss_is_known(int64_t i, const Batch& batch) const;
  void begin_descent(int64_t i, const Batch& batch, InProgress& one);
  DescentOptions options_of(int64_t i) const;
  void choose_rates(int64_t i, Quadratic<T>& quadratic);
  double norm_bound(int64_t i, const Objective& objective) const;
  double r2_lost(int64_t i, InProgress& one) const;

  void solve_lanes(const ExactOptions& options, Batch& batch);
  bool solve_one(int64_t i, ExactOptions options, Batch& batch, Budget& budget);
  bool solve_moments(int64_t i, const ExactOptions& options, Batch& batch, Budget& budget);
  void keep_solution(int64_t i, const std::vector<T>& params, int64_t rank_of_rows);
  void begin_inference(int64_t i, const ExactOptions& options, InProgress& one, Budget& budget);

  Problem<T> open_rows(int64_t i, InProgress& one, Budget& budget) const;
  void state_of(int64_t i, DescentState<T>& state) const;
  void keep_descent(int64_t i, InProgress& one);
  const double* scaling_of(int64_t i) const;
  T* params_of(int64_t i) { return states_.params.data() + i * parameters(); }
  T loss_of_rows(int64_t i, Budget& budget) const;
  int64_t work_of_rows(int64_t i) const;

  ManyRows<T> rows_;
  ManyOptions options_;
  ManyStates<T> states_;
  std::vector<double> packed_;  // (count, packed_size_): see Quadratic::pack
  std::vector<double> scalings_;
  std::vector<uint8_t> known_;
  bool judged_, scaled_;
  int64_t packed_size_ = 0, most_rows_ = 0;
  WorkQueue queue_;
};

}  // namespace gdcore
