#include <algorithm>

#include "cpu/dispatch.hpp"
#include "cpu/operations.hpp"
#include "cpu/parallel.hpp"
#include "cpu/threads.hpp"

namespace gdcore::cpu {
namespace {

bool contiguous(const Dims& shape, const Dims& strides) {
  int64_t next = 1;
  for (size_t dim = shape.size(); dim-- > 0;) {
    if (shape[dim] != 1 && strides[dim] != next) return false;
    next *= shape[dim];
  }
  return true;
}

// Elements [begin, begin + n) in C order, copied to `out` unless they are contiguous.
template <class T>
const T* segment_at(const Elements<const T>& x, bool is_contiguous, int64_t begin, int64_t n,
                    T* out) {
  if (is_contiguous) return x.data + begin;
  const size_t dims = x.shape.size();
  std::vector<int64_t> index(dims);
  int64_t at = 0;
  for (size_t dim = dims, rest = static_cast<size_t>(begin); dim-- > 0;) {
    index[dim] = static_cast<int64_t>(rest) % x.shape[dim];
    rest /= static_cast<size_t>(x.shape[dim]);
    at += index[dim] * x.strides[dim];
  }
  for (int64_t i = 0; i < n; ++i) {
    out[i] = x.data[at];
    for (size_t dim = dims; dim-- > 0;) {
      at += x.strides[dim];
      if (++index[dim] < x.shape[dim]) break;
      at -= x.shape[dim] * x.strides[dim];
      index[dim] = 0;
    }
  }
  return out;
}

// A gradient of this many bytes does not stay in the caches.
constexpr int64_t streamed_bytes = 16 << 20;

// Segments [begin, end) where an array is not contiguous, or the squares are output.
template <class T>
void by_segment(const MseArgs<T>& args, bool pred_contiguous, bool target_contiguous, int64_t begin,
                int64_t end, T* sums) {
  T pred_copy[L<T>], target_copy[L<T>];
  for (int64_t c = begin; c < end; ++c) {
    const int64_t first = c * L<T>, n = std::min(L<T>, args.size - first);
    const T* pred = segment_at(args.pred, pred_contiguous, first, n, pred_copy);
    const T* target = segment_at(args.target, target_contiguous, first, n, target_copy);
    if (args.output == MseOutput::squares) {
      for (int64_t i = 0; i < n; ++i)
        args.out[first + i] = SquaredError<T>().value(pred[i] - target[i]);
    }
    T* gradient = args.output == MseOutput::gradient ? args.out + first : nullptr;
    isa<T>().mse(n, pred, target, gradient, args.gradient(), false, sums + c);
  }
}

// Writes the sums of squares of segments [begin, end) to sums[begin] onwards.
template <class T>
void segments(const MseArgs<T>& args, bool pred_contiguous, bool target_contiguous, int64_t begin,
              int64_t end, T* sums) {
  if (!pred_contiguous || !target_contiguous || args.output == MseOutput::squares)
    return by_segment(args, pred_contiguous, target_contiguous, begin, end, sums);
  const int64_t first = begin * L<T>, n = std::min(end * L<T>, args.size) - first;
  T* gradient = args.output == MseOutput::gradient ? args.out + first : nullptr;
  const bool streams = args.size * static_cast<int64_t>(sizeof(T)) >= streamed_bytes;
  isa<T>().mse(n, args.pred.data + first, args.target.data + first, gradient, args.gradient(),
               streams, sums + begin);
}

// Reading takes longer than adding: `size` is about the work in units of threads_for.
template <class T>
double sum(const MseArgs<T>& args, int64_t count, T* sums) {
  const bool pred_contiguous = contiguous(args.pred.shape, args.pred.strides);
  const bool target_contiguous = contiguous(args.target.shape, args.target.strides);
  parallel_for(count, threads_for(count, args.size), [&](int64_t begin, int64_t end, int) {
    segments(args, pred_contiguous, target_contiguous, begin, end, sums);
  });
  LongSum<double> total;
  total.add(sums, count);
  return total.total();
}

}  // namespace

template <class T>
void mse(const MseArgs<T>& args) {
  constexpr int64_t few = 64;
  const int64_t count = ceil_div(args.size, L<T>);
  T on_stack[few];
  std::vector<T> on_heap(static_cast<size_t>(count <= few ? 0 : count));
  const double squares = sum(args, count, count <= few ? on_stack : on_heap.data());
  if (args.loss) *args.loss = closed_loss<T>(args.scale, squares);
}
template void mse<float>(const MseArgs<float>&);
template void mse<double>(const MseArgs<double>&);

}  // namespace gdcore::cpu
