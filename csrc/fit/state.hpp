// The options of a descent, its state, and what it records: plain values.
#pragma once

#include <limits>
#include <vector>

#include "fit/problem.hpp"

namespace gdcore {

enum class Outcome { running, converged, max_epochs, diverged, stalled };

struct DescentOptions {
  SgdOptions sgd;
  int64_t batch_size = 0;  // 0: all rows at once
  bool shuffle = true;
  uint64_t seed = 0;
  double tol = -1.0;  // see Goal; below 0: run every epoch
  bool stop_on_equal_loss = false;
  int64_t history = 1;  // record epochs that this divides; 0: nothing
  bool record_params = true;
};

template <class T>
struct DescentState {
  std::vector<T> params, velocity;  // velocity is empty before the first step, and without momentum
  int64_t epoch = 0;                // epochs done
  int64_t step = 0;                 // mini-batches done in this epoch
  T first_loss = std::numeric_limits<T>::quiet_NaN();
  T last_loss = std::numeric_limits<T>::quiet_NaN();     // measured during the last epoch
  LinearSums epoch_sums;                                 // of this epoch's mini-batches so far
  double lr = std::numeric_limits<double>::quiet_NaN();  // last used
  std::vector<T> previous;   // params before the last update, whose loss was finite; empty: none
  bool moved = true;         // the last update (of mini-batches: epoch) changed some bit
  bool epoch_moved = false;  // some update of this epoch did
};

// What was measured: losses during the recorded epochs, parameters after them.
template <class T>
struct DescentHistory {
  std::vector<int64_t> epoch;
  std::vector<T> loss, params;
};

}  // namespace gdcore
