// The operations that every device implements. Arrays of matmul, mse, linear_each and sgd, and the
// rows of all others (X, y, offset, sample_weight), are in the device's memory. All else is the
// host's: args, orders of rows, scalings, packed sums, and what passes and descents read and write
// (parameters, LinearSums, Moments, states). A device folds its own partials and copies some
// doubles back; linear, moments, moments_each, descend_each and fetch have written their results
// when they return.
#pragma once

#include "contract.hpp"
#include "dims.hpp"
#include "loss.hpp"
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
  T* out;         // contiguous: gradient * residual, or residual squared
  Scale scale{};  // closes the loss, and the gradient, whose factor is rounded to T
  T* loss = nullptr;

  T gradient() const { return static_cast<T>(scale.gradient); }
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

// The loss and the gradient of one linear model, written by the device.
template <class T>
struct LossArgs {
  LinearArgs<T> rows;
  Reduction reduction;
  T *loss, *weights, *intercept;  // (d,t), (t); intercept may be null
  // The number of elements, or the sum of their weights; the host's. NaN where only a device that
  // nobody waits for knows it.
  double* elements;
};

// From the closed sums over all rows.
template <class T>
void write_loss(const LossArgs<T>& args, const LinearSums& sums) {
  const LinearArgs<T>& rows = args.rows;
  *args.elements = (rows.sample_weight.data ? sums.sample_weight : static_cast<double>(rows.n)) *
                   static_cast<double>(rows.t);
  const Scale scale = scale_of(args.reduction, *args.elements, Losses::scales[rows.loss.place]);
  *args.loss = closed_loss<T>(scale, sums.squares);
  for (size_t j = 0; j < sums.weights.size(); ++j)
    args.weights[j] = closed_gradient<T>(scale, sums.weights[j]);
  for (size_t u = 0; args.intercept && u < sums.intercept.size(); ++u)
    args.intercept[u] = closed_gradient<T>(scale, sums.intercept[u]);
}

// torch.optim.SGD's options (maximize flips the gradient's sign before all else).
struct SgdOptions {
  double momentum = 0.0, dampening = 0.0, weight_decay = 0.0;
  bool nesterov = false, maximize = false;
  bool decay_intercept = true;  // for the fit that knows it; a step decays all its parameters
};

// Which rows of a table are a problem's, if they are not consecutive.
struct RowOrder {
  const int64_t* rows = nullptr;  // row numbers; null: rows 0, 1, ...
  const int64_t* end = nullptr;   // of all problems' row numbers: the next problem's follow
};

// The rows of one of several problems.
template <class T>
struct ProblemRows {
  LinearArgs<T> args;
  RowOrder order;
};

// One descent with all rows in each epoch and a constant learning rate. It steps until it has done
// its epochs, or the next epoch may be its last: see may_end in ordinary_epoch.hpp.
template <class T>
struct DescentArgs {
  // What the loss is made of: rows, or the packed sums that stand for them, see PackedQuadratic. Of
  // the rows only the sizes are read then. args.weights and args.intercept are `params`.
  ProblemRows<T> rows;
  const double* quadratic = nullptr;
  int64_t size;  // parameters: weights (d,t), then intercept (t) if there is one

  Scale scale;
  SgdOptions sgd;
  int64_t decayed;  // parameters, from the first on, that weight decay reaches
  double lr;
  double norm_bound;  // see EndRules
  bool stop_on_equal_loss;

  // Its state, read and written. `previous` is written at each step, not read.
  T *params, *velocity, *previous;  // (size); velocity may be null without momentum
  T *first_loss, *last_loss;        // first_loss: NaN before the first epoch
  uint8_t *moving, *moved;          // has a velocity; the last step changed a bit
  int64_t* epoch;                   // epochs done

  int64_t epochs;  // to do at most

  // Records: of each epoch that `every` divides the loss it measured, and the
  // parameters after it (size); may be null. `loss` may be null too.
  int64_t every = 0;
  T *losses = nullptr, *recorded = nullptr;
  T* loss = nullptr;  // at the parameters reached
  uint8_t* may_end;   // whether the next epoch may be the last; the host decides
};

template <class T>
struct Device {
  // Whether its memory is the host's.
  bool of_host;
  // How many problems the operations on several are best given at a time.
  int64_t block;

  void (*matmul)(const MatmulArgs<T>&);
  // Writes the loss, and args.out as asked.
  void (*mse)(const MseArgs<T>&);
  // Adds the row segments [segment0, segment1) of args to sums, which are still open.
  void (*linear)(const LinearArgs<T>& args, int64_t segment0, int64_t segment1, LinearSums& sums);
  // The loss and the gradient of each of `count` independent models.
  void (*linear_each)(int64_t count, const LossArgs<T>* args);
  // Adds the row segments [segment0, segment1) of args, whose parameters are not read, to moments,
  // which are still open.
  void (*moments)(const LinearArgs<T>& args, int64_t segment0, int64_t segment1, Moments& moments);
  // The closed moments of all rows of each of `count` problems.
  void (*moments_each)(int64_t count, const ProblemRows<T>* problems, Moments* moments);
  // One step on n contiguous parameters; velocity is null without momentum; first: velocity is
  // made, not read.
  void (*sgd)(int64_t n, T* param, const T* grad, T* velocity, bool first, double lr,
              const SgdOptions&);
  // Ordinary epochs of one descent or of many. The bits of each are those of running it alone.
  void (*descend_each)(int64_t count, const DescentArgs<T>* descents);
  // Copies the rows, in their order, to the host's memory: X (n,d), y (n,t), then offset (n,t) and
  // sample_weight (n) if they are there.
  void (*fetch)(const ProblemRows<T>& rows, T* to);
  // The moments of each of `count` problems, packed by pack_moments. Null: moments_each takes no
  // longer.
  void (*quadratics_each)(int64_t count, const ProblemRows<T>* problems, bool fit_intercept,
                          double* const* packed) = nullptr;
};

template <class T>
const Device<T>& cpu_device();
template <class T>
const Device<T>& reference_device();

// The device for arrays in the host's memory: the CPU under the chosen instruction set, or the
// reference loops. Callers keep it with their arrays (Problem::device).
template <class T>
const Device<T>& host_device();

// The device for what is in the host's memory beside the rows of `device`.
template <class T>
const Device<T>& host_of(const Device<T>& device) {
  return device.of_host ? device : host_device<T>();
}

}  // namespace gdcore
