#include "cpu/dispatch.hpp"
#include "cpu/operations.hpp"
#include "cpu/parallel.hpp"

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

// Elements [begin, begin + n) in C order, copied to `out` unless they lie together already.
template <class T>
const T* chunk_of(const Elements<const T>& x, bool is_contiguous, int64_t begin, int64_t n,
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

template <class T>
T chunk(const MseArgs<T>& args, bool pred_contiguous, bool target_contiguous, int64_t begin,
        int64_t n) {
  T pred_copy[L<T>], target_copy[L<T>];
  const T* pred = chunk_of(args.pred, pred_contiguous, begin, n, pred_copy);
  const T* target = chunk_of(args.target, target_contiguous, begin, n, target_copy);
  if (args.output == MseOutput::squares) {
    for (int64_t i = 0; i < n; ++i) {
      const T r = pred[i] - target[i];
      args.out[begin + i] = r * r;
    }
  }
  T* gradient = args.output == MseOutput::gradient ? args.out + begin : nullptr;
  return isa<T>().mse_chunk(n, pred, target, gradient, args.gradient);
}

}  // namespace

template <class T>
double mse(const MseArgs<T>& args) {
  const bool pred_contiguous = contiguous(args.pred.shape, args.pred.strides);
  const bool target_contiguous = contiguous(args.target.shape, args.target.strides);
  const int64_t chunks = chunks_of(args.size, L<T>);
  std::vector<T> partial(static_cast<size_t>(chunks));
  parallel_for(chunks, threads_for(chunks, args.size), [&](int64_t begin, int64_t end, int) {
    for (int64_t c = begin; c < end; ++c)
      partial[static_cast<size_t>(c)] = chunk(args, pred_contiguous, target_contiguous, c * L<T>,
                                              std::min(L<T>, args.size - c * L<T>));
  });
  double total = 0;
  for (T value : partial) total += value;
  return total;
}
template double mse<float>(const MseArgs<float>&);
template double mse<double>(const MseArgs<double>&);

}  // namespace gdcore::cpu
