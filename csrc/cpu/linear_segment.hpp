// What one segment of rows adds to the loss and gradient of a linear model.
#pragma once

#include <algorithm>

#include "cpu/dispatch.hpp"
#include "cpu/gemm.hpp"
#include "cpu/scratch.hpp"
#include "device.hpp"

namespace gdcore::cpu {

// X of this size is read from memory.
constexpr int64_t memory_bytes = 32 << 20;

// In turns, data of the caches take up to twice as long. In order, rows of more than 16 features
// take up to 1.3 times as long there.
template <class T>
Reading reading_of(const LinearArgs<T>& args) {
  const bool large = args.n * args.d * static_cast<int64_t>(sizeof(T)) >= memory_bytes;
  if (reads_in_order()) return large || args.d <= 16 ? Reading::in_order : Reading::ahead;
  return large ? Reading::in_turns : Reading::ahead;
}

// The partials of one segment, in T: X^T r (d,t), 1^T r (t), squares of each L elements (t), one
// after the other. The sum of its sample weights is a double, elsewhere.
template <class T>
struct Partial {
  T *weights, *intercept, *squares;
};

template <class T>
int64_t slot_size(const LinearArgs<T>& args) {
  return lines<T>((args.d + 2) * args.t);
}

template <class T>
Partial<T> partial_at(const LinearArgs<T>& args, T* slot) {
  return {slot, slot + args.d * args.t, slot + (args.d + 1) * args.t};
}

template <class T>
int64_t rows_of(const LinearArgs<T>& args, int64_t segment) {
  return std::min(L<T>, args.n - segment * L<T>);
}

// How segments are read, and the memory it takes: the same for all segments of a call.
template <class T>
struct SegmentPlan {
  const LinearArgs<T>& args;
  int64_t block;  // rows of X to copy at a time
  bool copy_X, copy_y, copy_offset, copy_weight;
  int64_t size_X, size_y, size_weights, size_packing;

  explicit SegmentPlan(const LinearArgs<T>& args);

  int64_t size() const {
    const int copies = copy_y + copy_offset + copy_weight;
    return size_order() + size_X + size_y * (copies + (args.t > 1)) + size_weights + size_packing;
  }
  bool in_place() const { return !copy_X && !copy_y && !copy_offset && !copy_weight; }

  int64_t size_order() const {
    return args.order ? L<T> * static_cast<int64_t>(sizeof(int64_t) / sizeof(T)) : 0;
  }
};

template <class T>
class Segment {
 public:
  Segment(const SegmentPlan<T>& plan, T* memory);

  // Segments [first, last), each into its slot; totals: the sums of their sample weights, if any.
  void run(int64_t first, int64_t last, T* slots, double* totals);

 private:
  void locate(int64_t begin, int64_t n);
  void run_one(T* slot);
  const LinearKernels<T>& kernels() const;
  // f(position in the segment, row of the data) for each row.
  template <class F>
  void each_row(F&& f) const;
  // Rows [begin_, begin_ + n_) of a (n,t) matrix, contiguous.
  const T* elements(const Matrix<const T>& m, bool copy, T* out) const;
  const T* targets() const;
  const T* offsets() const;
  double sum_of_weights() const;
  const T* sample_weights() const;
  // Rows [i0, i0 + rows) of the segment, their elements together.
  const T* X_rows(int64_t i0, int64_t rows, int64_t& ld) const;
  void gather_rows(int64_t i0, int64_t rows) const;
  // All rows in the layout of the kernels, except X where it must be copied.
  LinearRows<T> rows() const;
  void single_target(T* slot) const;
  const T* weights() const;
  void several_targets(const Partial<T>& out);

  const SegmentPlan<T>& plan_;
  const LinearArgs<T>& args_;
  int64_t begin_ = 0, n_ = 0;
  int64_t* rows_ = nullptr;
  T *weights_, *X_, *packing_;
  T *r_ = nullptr, *y_ = nullptr, *offset_ = nullptr, *weight_ = nullptr;
};

}  // namespace gdcore::cpu
