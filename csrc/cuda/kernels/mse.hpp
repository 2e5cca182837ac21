// Squared errors: a sum over 16 lanes for each segment of 512, four threads a segment.
#pragma once

#include "cuda/kernels/lanes.hpp"
#include "cuda/kernels/mse_params.hpp"
#include "cuda/kernels/partials.hpp"
#include "loss.hpp"

namespace gdcore::cuda {

// What an element adds to its lane and to the output.
template <class T>
GDCORE_DEVICE T add_residual(const MseParams<T>& p, T r, T& lane) {
  const SquaredError<T> loss;
  const T slope = loss.slope(r);
  lane = fma(slope, loss.ratio(r, slope), lane);
  return p.writes == MseWrites::gradient ? p.gradient * slope : loss.value(r);
}

template <class T>
GDCORE_DEVICE void end_segment(const MseParams<T>& p, int64_t segment, const T (&lanes)[4]) {
  const T sum = fold_quad(lanes);
  if (threadIdx.x % quad != 0 || (segment > 0 && segment * L<T> >= p.size)) return;
  if (p.partials)
    p.partials[segment] = static_cast<double>(sum);
  else if (p.loss)
    *p.loss = closed_loss<T>(p.scale, static_cast<double>(sum));
}

GDCORE_DEVICE int64_t mse_segment() {
  return (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / quad;
}

// All arrays are contiguous and begin at multiples of 16 bytes.
template <class T>
GDCORE_DEVICE void mse(const MseParams<T>& p) {
  const int64_t segment = mse_segment(), first = segment * L<T>, left = p.size - first;
  const int terms = static_cast<int>(left < 0 ? 0 : left < L<T> ? left : L<T>);
  const T *const pred = p.pred + first, *const target = p.target + first;
  T* const out = p.out + first;
  T lanes[4] = {T(0), T(0), T(0), T(0)};
  int i = static_cast<int>(threadIdx.x) % quad * 4;
#pragma unroll 4
  for (; i + 4 <= terms; i += V) {
    const Four<T> x = Four<T>::load(pred + i), y = Four<T>::load(target + i);
    Four<T> written;
    GDCORE_UNROLL
    for (int v = 0; v < 4; ++v) written[v] = add_residual(p, x[v] - y[v], lanes[v]);
    if (p.writes != MseWrites::nothing) written.store(out + i);
  }
  GDCORE_UNROLL
  for (int v = 0; v < 4; ++v) {
    if (i + v >= terms) continue;
    const T written = add_residual(p, pred[i + v] - target[i + v], lanes[v]);
    if (p.writes != MseWrites::nothing) out[i + v] = written;
  }
  end_segment(p, segment, lanes);
}

template <class T>
GDCORE_DEVICE void strided_mse(const StridedMseParams<T>& strided) {
  const MseParams<T>& p = strided.sums;
  const int64_t segment = mse_segment(), first = segment * L<T>, left = p.size - first;
  const int terms = static_cast<int>(left < 0 ? 0 : left < L<T> ? left : L<T>);
  T lanes[4] = {T(0), T(0), T(0), T(0)};
  for (int i = static_cast<int>(threadIdx.x) % quad * 4; i < terms; i += V) {
    GDCORE_UNROLL
    for (int v = 0; v < 4; ++v) {
      if (i + v >= terms) continue;
      int64_t rest = first + i + v, pred = 0, target = 0;
      for (int dim = strided.dims; dim-- > 0;) {
        const int64_t above = rest / strided.shape[dim], index = rest - above * strided.shape[dim];
        pred += index * strided.pred_strides[dim];
        target += index * strided.target_strides[dim];
        rest = above;
      }
      const T written = add_residual(p, p.pred[pred] - p.target[target], lanes[v]);
      if (p.writes != MseWrites::nothing) p.out[first + i + v] = written;
    }
  }
  end_segment(p, segment, lanes);
}

// One warp.
template <class T>
GDCORE_DEVICE void mse_close(const MseCloseParams<T>& p) {
  double* const shared = reinterpret_cast<double*>(shared_memory(512 * sizeof(double)));
  const double total = sum_by_warp(p.partials, p.count, 1, shared);
  if (threadIdx.x == 0) *p.loss = closed_loss<T>(p.scale, total);
}

}  // namespace gdcore::cuda
