// Many problems as values: where their rows are, their states, and what is asked of them.
#pragma once

#include <memory>
#include <vector>

#include "fit/state.hpp"
#include "grouped_rows.hpp"

namespace gdcore {

// The rows of each problem: arrays with a leading dimension, X_step and so on elements from problem
// to problem; or one table, in which problem i has the rows [starts[i], starts[i+1]) of `order`, or
// those of a group.
template <class T>
struct ManyRows {
  int64_t count;
  Problem<T> all;  // problem 0, or all rows
  int64_t X_step, y_step, offset_step, weight_step;
  std::vector<int64_t> starts;                // (count + 1), or none
  const int64_t* order;                       // null: rows in their order, or as `groups` has them
  std::shared_ptr<const GroupedRows> groups;  // null, or rows that are not in place
  std::shared_ptr<const GroupSums> sums;      // null, or second moments of all groups
  int64_t first_group;                        // of problem 0

  // A problem without its rows: their number, and all else. Nothing of it is on a device.
  Problem<T> size_of(int64_t i) const;
  int64_t rows_of(int64_t i) const { return starts.empty() ? all.n : starts[i + 1] - starts[i]; }
  int64_t most_rows() const;                         // of any problem
  bool anywhere() const { return order || groups; }  // a problem's rows are not consecutive
  // Writes where problem i has its rows to `rows`, a Problem or LinearArgs of these arrays, and
  // which of them are its own to `order`.
  template <class Rows>
  void locate(int64_t i, Rows& rows, RowOrder& order) const;
  // Its rows are consecutive, copied to `storage` if they were not. Few rows are the host's.
  Problem<T> gathered(int64_t i, std::vector<T>& storage) const;
};

// The number of rows of weight above 0.
template <class T>
int64_t rows_that_count(const Problem<T>& problem);
// Whether there is such a row.
template <class T>
bool has_weight(const Problem<T>& problem);

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
  int64_t first_epoch = 0;  // the first that the schedule has a rate for
};

}  // namespace gdcore
