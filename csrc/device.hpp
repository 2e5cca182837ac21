// The operations that every device implements.
#pragma once

#include "contract.hpp"
#include "dims.hpp"
#include "loss.hpp"
#include "quadratic.hpp"
#include "shuffle.hpp"
#include "sums.hpp"
#include "views.hpp"

namespace gdcore {

// c (m,n) = a (m,k) @ b (k,n), for every index of the batch dimensions.
template <class T>
struct MatmulArgs {
  int64_t m, n, k;
  Matrix<const T> a, b;
  Matrix<T> c;
  Dims batch, a_batch, b_batch, c_batch;  // shape and strides of the batch dimensions
};

// hi + lo (m,n) = a (m,k) @ b (k,n) and size = |a| @ |b|, for every index of the batch dimensions:
// the product in more than T's precision, and what bounds its errors. For float the sums are
// doubles, and there is no lo. Outputs are contiguous, lo and size so many elements behind hi.
template <class T>
struct AccurateArgs {
  int64_t m, n, k;
  Matrix<const T> a, b;
  Dims batch, a_batch, b_batch;
  double* hi;
  int64_t lo, size;
};

enum class MseOutput { none, gradient, squares };

template <class T>
struct MseArgs {
  int64_t size;
  Elements<const T> pred, target;
  MseOutput output;
  T* out;      // contiguous: gradient_factor * residual, or residual squared
  T gradient;  // factor of the residual
};

// prediction (n,t) = X (n,d) @ weights (d,t) + intercept (t) + offset; residual = prediction - y.
// Row `position` of the sum is row order(position) of the data.
template <class T>
struct LinearArgs {
  int64_t n, d, t;
  Matrix<const T> X, y, offset;   // offset.data may be null; y.data too: zeros
  Vector<const T> sample_weight;  // may be null
  Matrix<const T> weights;
  Vector<const T> intercept;  // may be null
  const Permutation* order = nullptr;
  int64_t first = 0;  // positions [first, first + n) are summed
  // If not null, X and y are standardised as they are read, each element rounded to T: x becomes
  // (x - mean) * factor, y - mean. Means (d), factors (d), means of y (t); see fit/scaling.hpp.
  const double* scaling = nullptr;
  LossChoice loss = {};

  T scaled_x(T x, int64_t j) const {
    return static_cast<T>((static_cast<double>(x) - scaling[j]) * scaling[d + j]);
  }
  T scaled_y(T y, int64_t u) const {
    return static_cast<T>(static_cast<double>(y) - scaling[2 * d + u]);
  }
};

// torch.optim.SGD's options (maximize flips the gradient's sign before all else).
struct SgdOptions {
  double momentum = 0.0, dampening = 0.0, weight_decay = 0.0;
  bool nesterov = false, maximize = false;
  bool decay_intercept = true;  // for the fit that knows it; a step decays all its parameters
};

template <class T>
struct Device {
  void (*matmul)(const MatmulArgs<T>&);
  void (*accurate)(const AccurateArgs<T>&);
  // Sum of squared residuals, in double; writes args.out as asked.
  double (*mse)(const MseArgs<T>&);
  // Adds the row chunks [chunk0, chunk1) of args to sums, which are still open.
  void (*linear)(const LinearArgs<T>& args, int64_t chunk0, int64_t chunk1, LinearSums& sums);
  // The closed sums of each of `count` independent problems.
  void (*linear_each)(int64_t count, const LinearArgs<T>* args, LinearSums* sums);
  // Adds the row chunks [chunk0, chunk1) of args, whose parameters are not read, to moments,
  // which are still open.
  void (*moments)(const LinearArgs<T>& args, int64_t chunk0, int64_t chunk1, Moments& moments);
  // Half the gradient, G w - c, in the first p of 2 p entries; returns the sum of squares.
  double (*quadratic)(const QuadraticArgs<T>& args, double* gradient);
  // One step on n contiguous parameters; velocity is null without momentum; first: velocity is
  // made, not read.
  void (*sgd)(int64_t n, T* param, const T* grad, T* velocity, bool first, double lr,
              const SgdOptions&);
  // At most so many epochs, fewer if one lane's next epoch may be its last: the epochs done. A bit
  // of `ending` for each such lane. Null where a device has no lanes.
  std::int64_t (*descent_lanes)(const DescentLanes<T>& lanes, std::int64_t epochs,
                                unsigned* ending);
  void (*moments_lanes)(const LaneMoments<T>& lanes);  // null as well
  // body(context) on each of the threads worth starting for so many tasks of so much work in all.
  void (*each_thread)(int64_t tasks, int64_t work, void (*body)(void*), void* context);
};

// The device in force: the CPU under the chosen ISA, or the reference loops.
template <class T>
const Device<T>& device();

template <class T>
const Device<T>& cpu_device();
template <class T>
const Device<T>& reference_device();

}  // namespace gdcore
