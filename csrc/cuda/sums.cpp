// Operations that go once through memory: squared errors and SGD steps.
#include "cuda/batch.hpp"
#include "cuda/kernels/mse_params.hpp"
#include "cuda/kernels/sgd_params.hpp"
#include "cuda/long_sums.hpp"
#include "cuda/operations.hpp"

namespace gdcore::cuda {
namespace {

bool is_aligned(const void* address) { return reinterpret_cast<uintptr_t>(address) % 16 == 0; }

template <class T>
MseParams<T> mse_params(const MseArgs<T>& args, double* partials) {
  const MseWrites writes = args.output == MseOutput::gradient  ? MseWrites::gradient
                           : args.output == MseOutput::squares ? MseWrites::squares
                                                               : MseWrites::nothing;
  return {args.size,       args.pred.data, args.target.data, writes,   args.out,
          args.gradient(), partials,       args.scale,       args.loss};
}

// The sums of all segments, or the loss of a single one.
template <class T>
void mse_segments(const MseArgs<T>& args, double* partials) {
  Merged<2> merged;
  for (size_t dim = 0; dim < args.pred.shape.size(); ++dim)
    merged.append(args.pred.shape[dim], {args.pred.strides[dim], args.target.strides[dim]});
  const Dims& shape = merged.shape;
  const bool is_contiguous = shape.empty() || (shape.size() == 1 && merged.strides[0][0] == 1 &&
                                               merged.strides[1][0] == 1);
  const MseParams<T> sums = mse_params(args, partials);
  constexpr int threads = 128, threads_each = 4;
  const int64_t blocks =
      ceil_div(std::max<int64_t>(ceil_div(args.size, L<T>), 1) * threads_each, threads);
  if (is_contiguous && is_aligned(args.pred.data) && is_aligned(args.target.data) &&
      is_aligned(args.out))
    return launch(kernel_of<T>("mse").c_str(), blocks, threads, 0, sums);
  StridedMseParams<T> p{};
  p.sums = sums;
  p.dims = static_cast<int>(shape.size());
  for (size_t dim = 0; dim < shape.size(); ++dim) {
    p.shape[dim] = shape[dim];
    p.pred_strides[dim] = merged.strides[0][dim];
    p.target_strides[dim] = merged.strides[1][dim];
  }
  launch(kernel_of<T>("strided_mse").c_str(), blocks, threads, 0, p);
}

}  // namespace

template <class T>
void mse(const MseArgs<T>& args) {
  const int64_t segments = ceil_div(args.size, L<T>);
  if (segments <= 1 || !args.loss) return mse_segments(args, nullptr);
  const Memory partials(static_cast<size_t>(segments) * sizeof(double));
  mse_segments(args, partials.as<double>());
  add_levels(static_cast<const double*>(partials.as<double>()), segments, 1, 0,
             [&](const double* last, int64_t count, size_t) {
               const MseCloseParams<T> p{last, count, args.scale, args.loss};
               launch(kernel_of<T>("mse_close").c_str(), 1, 32, fan_in * sizeof(double), p);
             });
}

template <class T>
void sgd(int64_t n, T* param, const T* grad, T* velocity, bool first, double lr,
         const SgdOptions& options) {
  const StepRates<T, bool> rates{static_cast<T>(-lr),
                                 static_cast<T>(options.momentum),
                                 static_cast<T>(1.0 - options.dampening),
                                 static_cast<T>(options.weight_decay),
                                 options.weight_decay != 0,
                                 first,
                                 options.nesterov};
  constexpr int threads = 256, each = 4;
  launch(kernel_of<T>("sgd").c_str(), ceil_div(n, threads * each), threads, 0,
         SgdParams<T>{n, param, grad, velocity, rates, options.maximize});
}

#define GDCORE_INSTANTIATE(T)           \
  template void mse(const MseArgs<T>&); \
  template void sgd(int64_t, T*, const T*, T*, bool, double, const SgdOptions&);
GDCORE_INSTANTIATE(float)
GDCORE_INSTANTIATE(double)

}  // namespace gdcore::cuda
