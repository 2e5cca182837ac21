// Loss and gradient of a linear model over a range of row chunks: X is read once from memory.
#include <algorithm>

#include "cpu/dispatch.hpp"
#include "cpu/operations.hpp"
#include "cpu/parallel.hpp"
#include "cpu/scratch.hpp"

namespace gdcore::cpu {
namespace {

// What one chunk adds, in T: X^T r (d,t), 1^T r (t), squares of each L elements (t).
template <class T>
struct Partial {
  T *weights, *intercept, *squares;
  double sample_weight;
};

// How a chunk is read, and the memory that takes, the same for every chunk of a call.
template <class T>
struct Plan {
  const LinearArgs<T>& args;
  int64_t width;  // columns of X as the kernels see it: d, or lanes_of(d) when narrow
  int64_t block;  // rows that stay in L1 between the forward and the backward pass
  bool copy_X, copy_y, copy_offset, copy_weight;
  int64_t size_X, size_y, size_weights, size_grad, size_packing;

  explicit Plan(const LinearArgs<T>& a) : args(a) {
    const int64_t rows = std::min(a.n, L<T>);
    const bool narrow = a.t == 1 && a.d <= 8, lone = a.n == 1;
    width = narrow ? lanes_of(a.d) : a.d;
    block = rows;
    if (a.t == 1 && !narrow) {
      const int64_t fitting = static_cast<int64_t>(16384 / sizeof(T)) / std::max<int64_t>(width, 1);
      block = std::clamp<int64_t>(fitting / 16 * 16, 16, L<T>);
    }
    const bool unit_rows = a.X.cs == 1 || a.d == 1;
    const bool packed_rows = a.X.rs == width || lone;
    copy_X = a.t == 1 ? a.order || !unit_rows || width != a.d || (narrow && !packed_rows)
                      : a.order != nullptr;
    const auto in_place = [&](const Matrix<const T>& m) {
      return !a.order && (m.cs == 1 || a.t == 1) && (m.rs == a.t || lone);
    };
    copy_y = !in_place(a.y);
    copy_offset = a.offset.data && !in_place(a.offset);
    copy_weight =
        a.sample_weight.data && (a.order || a.t > 1 || !(a.sample_weight.stride == 1 || lone));
    size_X = copy_X ? lines<T>((a.t == 1 ? block : rows) * width) : 0;
    size_y = lines<T>(rows * a.t);
    size_weights = a.t == 1 ? lines<T>(std::max<int64_t>(width, V)) : 0;
    size_grad = lines<T>(std::max<int64_t>(a.d, V));
    size_packing =
        a.t == 1
            ? 0
            : lines<T>(std::max(packing_size<T>(rows, a.t, a.d), packing_size<T>(a.d, a.t, rows)));
  }

  int64_t size() const {
    const int copies = copy_y + copy_offset + copy_weight;
    return size_order() + size_X + size_y * (1 + copies) + 3 * 16 + size_weights + size_grad +
           size_packing;
  }
  int64_t size_order() const {
    return args.order ? L<T> * static_cast<int64_t>(sizeof(int64_t) / sizeof(T)) : 0;
  }
};

template <class T>
class Chunk {
 public:
  Chunk(const Plan<T>& plan, T* memory) : plan_(plan), args_(plan.args) {
    const auto take = [&](int64_t size) {
      T* at = memory;
      memory += size;
      return at;
    };
    if (args_.order) rows_ = reinterpret_cast<int64_t*>(take(plan.size_order()));
    r_ = take(plan.size_y + 16);
    squares_ = take(16);
    sums_ = take(16);
    weights_ = take(plan.size_weights);
    grad_ = take(plan.size_grad);
    X_ = take(plan.size_X);
    if (plan.copy_y) y_ = take(plan.size_y);
    if (plan.copy_offset) offset_ = take(plan.size_y);
    if (plan.copy_weight) weight_ = take(plan.size_y);
    packing_ = take(plan.size_packing);
  }

  void run(int64_t begin, int64_t n, Partial<T>& out) {
    begin_ = args_.first + begin;
    n_ = n;
    if (rows_)
      for (int64_t i = 0; i < n; ++i) rows_[i] = (*args_.order)(begin_ + i);
    const T* y = elements(args_.y, plan_.copy_y, y_);
    const T* offset =
        args_.offset.data ? elements(args_.offset, plan_.copy_offset, offset_) : nullptr;
    const T* weight = sample_weights(out.sample_weight);
    if (args_.t == 1)
      single_target(y, offset, weight, out);
    else
      several_targets(y, offset, weight, out);
  }

 private:
  int64_t row(int64_t i) const { return rows_ ? rows_[i] : begin_ + i; }

  // Rows [begin_, begin_ + n_) of a (n,t) matrix, contiguous.
  const T* elements(const Matrix<const T>& m, bool copy, T* out) const {
    if (!copy) return m.data + begin_ * m.rs;
    for (int64_t i = 0; i < n_; ++i)
      for (int64_t u = 0; u < args_.t; ++u) out[i * args_.t + u] = m.data[row(i) * m.rs + u * m.cs];
    return out;
  }

  const T* sample_weights(double& total) const {
    total = 0;
    const Vector<const T>& s = args_.sample_weight;
    if (!s.data) return nullptr;
    for (int64_t i = 0; i < n_; ++i) total += s.data[row(i) * s.stride];
    if (!plan_.copy_weight) return s.data + begin_ * s.stride;
    for (int64_t i = 0; i < n_; ++i)
      for (int64_t u = 0; u < args_.t; ++u) weight_[i * args_.t + u] = s.data[row(i) * s.stride];
    return weight_;
  }

  // Rows [i0, i0 + rows) of the chunk, `plan_.width` columns, padded with zeros.
  const T* X_rows(int64_t i0, int64_t rows, int64_t& ld) const {
    if (!plan_.copy_X) {
      ld = args_.X.rs;
      return args_.X.data + (begin_ + i0) * args_.X.rs;
    }
    ld = plan_.width;
    switch (args_.t == 1 ? ld : 0) {
      case 2: copy_rows<2>(i0, rows); break;
      case 4: copy_rows<4>(i0, rows); break;
      case 8: copy_rows<8>(i0, rows); break;
      default: copy_rows<0>(i0, rows);
    }
    return X_;
  }

  // Rows of X to X_, padded with zeros to `Width` columns (0: as wide as they are).
  template <int Width>
  void copy_rows(int64_t i0, int64_t rows) const {
    const int64_t d = args_.d, cs = args_.X.cs;
    T* to = X_;
    for (int64_t i = 0; i < rows; ++i) {
      const T* const from = args_.X.data + row(i0 + i) * args_.X.rs;
      if constexpr (Width == 0) {
        for (int64_t j = 0; j < d; ++j) *to++ = from[j * cs];
      } else {
#pragma GCC unroll 8
        for (int j = 0; j < Width; ++j) *to++ = j < d ? from[j * cs] : T(0);
      }
    }
  }

  void single_target(const T* y, const T* offset, const T* weight, Partial<T>& out) {
    const auto& kernels = isa<T>();
    const int64_t d = args_.d;
    const T* w = column();
    for (int64_t i = 0; i < n_; i += plan_.block) {
      const int64_t rows = std::min(plan_.block, n_ - i);
      const bool first = i == 0, last = i + rows == n_;
      int64_t ld = 0;
      const T* X = nullptr;
      if (d > 0) {
        X = X_rows(i, rows, ld);
        kernels.dot_rows(rows, d, d <= 8, X, ld, w, r_);
      } else {
        std::fill_n(r_, rows, T(0));
      }
      kernels.residuals(rows, r_, args_.intercept.data, offset ? offset + i : nullptr, y + i,
                        weight ? weight + i : nullptr, squares_, sums_, first, last);
      if (d > 0) kernels.grad_rows(rows, d, X, ld, r_, grad_, first, last);
    }
    out.squares[0] = squares_[0];
    out.intercept[0] = sums_[0];
    for (int64_t j = 0; j < d; ++j) out.weights[j] = grad_[j];
  }

  // The weights as dot_rows wants them: contiguous, narrow ones padded.
  const T* column() const {
    const Matrix<const T>& w = args_.weights;
    if (w.rs == 1 && plan_.width == args_.d) return w.data;
    for (int64_t j = 0; j < plan_.width; ++j) weights_[j] = j < args_.d ? w.data[j * w.rs] : T(0);
    return weights_;
  }

  void several_targets(const T* y, const T* offset, const T* weight, Partial<T>& out) {
    const int64_t d = args_.d, t = args_.t;
    Matrix<const T> X{nullptr, args_.X.rs, args_.X.cs};
    if (plan_.copy_X) {
      X.data = X_rows(0, n_, X.rs);
      X.cs = 1;
    } else if (d > 0) {
      X.data = args_.X.data + begin_ * X.rs;
    }
    gemm<T>(n_, t, d, X, args_.weights, {r_, t, 1}, packing_);
    if (args_.intercept.data)
      for (int64_t i = 0; i < n_; ++i)
        for (int64_t u = 0; u < t; ++u)
          r_[i * t + u] += args_.intercept.data[u * args_.intercept.stride];
    for (int64_t e = 0; e < n_ * t; e += L<T>) {
      isa<T>().residuals(std::min(L<T>, n_ * t - e), r_ + e, nullptr, offset ? offset + e : nullptr,
                         y + e, weight ? weight + e : nullptr, squares_, sums_, true, true);
      out.squares[e / L<T>] = squares_[0];
    }
    std::fill_n(out.intercept, t, T(0));
    for (int64_t i = 0; i < n_; ++i)
      for (int64_t u = 0; u < t; ++u) out.intercept[u] += r_[i * t + u];
    gemm<T>(d, t, n_, {X.data, X.cs, X.rs}, {r_, t, 1}, {out.weights, t, 1}, packing_);
  }

  const Plan<T>& plan_;
  const LinearArgs<T>& args_;
  int64_t begin_ = 0, n_ = 0;
  int64_t* rows_ = nullptr;
  T *r_, *squares_, *sums_, *weights_, *grad_, *X_, *packing_;
  T *y_ = nullptr, *offset_ = nullptr, *weight_ = nullptr;
};

template <class T>
void add(const LinearArgs<T>& args, int64_t rows, const Partial<T>& partial, LinearSums& sums) {
  const int64_t entries = args.d * args.t, parts = chunks_of(rows * args.t, L<T>);
  for (int64_t e = 0; e < parts; ++e) sums.squares += partial.squares[e];
  sums.sample_weight += partial.sample_weight;
  for (int64_t j = 0; j < entries; ++j) sums.weights[static_cast<size_t>(j)] += partial.weights[j];
  for (int64_t u = 0; u < args.t; ++u)
    sums.intercept[static_cast<size_t>(u)] += partial.intercept[u];
}

constexpr size_t slots_bytes = size_t{4} << 20;  // partials waiting for their turn

thread_local Scratch scratch;

template <class T>
int64_t slot_size(const LinearArgs<T>& args) {
  return lines<T>((args.d + 2) * args.t);
}

template <class T>
Partial<T> partial_at(const LinearArgs<T>& args, T* values) {
  return {values, values + args.d * args.t, values + (args.d + 1) * args.t, 0.0};
}

template <class T>
int64_t rows_of(const LinearArgs<T>& args, int64_t chunk) {
  return std::min(L<T>, args.n - chunk * L<T>);
}

// One chunk of one target that lies as the kernels want it: nothing to plan, to copy or to
// allocate. False if it does not. Small fits spend their time here.
template <class T>
bool linear_in_place(const LinearArgs<T>& args, LinearSums& sums) {
  constexpr int64_t most_d = 64;
  const int64_t n = args.n, d = args.d;
  const auto unit = [&](int64_t stride) { return stride == 1 || n == 1; };
  const bool X_fits =
      (args.X.cs == 1 || d == 1) && (args.X.rs == d || n == 1) && (d > 8 || lanes_of(d) == d);
  if (args.t != 1 || n > L<T> || d < 1 || d > most_d || args.order || !X_fits ||
      args.weights.rs != 1 || !unit(args.y.rs) || (args.offset.data && !unit(args.offset.rs)) ||
      args.sample_weight.data)
    return false;
  T r[L<T> + 16], grad[most_d], squares[16], sum[16];
  const auto& kernels = isa<T>();
  const T* const X = args.X.data + args.first * args.X.rs;
  const T* const offset =
      args.offset.data ? args.offset.data + args.first * args.offset.rs : nullptr;
  kernels.dot_rows(n, d, d <= 8, X, d, args.weights.data, r);
  kernels.residuals(n, r, args.intercept.data, offset, args.y.data + args.first * args.y.rs,
                    nullptr, squares, sum, true, true);
  kernels.grad_rows(n, d, X, d, r, grad, true, true);
  sums.squares += squares[0];
  sums.intercept[0] += sum[0];
  for (int64_t j = 0; j < d; ++j) sums.weights[static_cast<size_t>(j)] += grad[j];
  return true;
}

// One chunk after the other, each added as soon as it is done.
template <class T>
void linear_serial(const LinearArgs<T>& args, int64_t chunk0, int64_t chunk1, LinearSums& sums) {
  const Plan<T> plan(args);
  T* const space = scratch.reserve_as<T>(slot_size(args) + plan.size());
  Partial<T> partial = partial_at(args, space);
  Chunk<T> chunk(plan, space + slot_size(args));
  for (int64_t c = chunk0; c < chunk1; ++c) {
    chunk.run(c * L<T>, rows_of(args, c), partial);
    add(args, rows_of(args, c), partial, sums);
  }
}

// In waves: threads fill slots, then the slots are added in the order of the chunks.
template <class T>
void linear_parallel(const LinearArgs<T>& args, int64_t chunk0, int64_t chunk1, LinearSums& sums,
                     int threads) {
  const Plan<T> plan(args);
  const int64_t slot = slot_size(args), memory = lines<T>(plan.size());
  const int64_t fitting = static_cast<int64_t>(slots_bytes / sizeof(T)) / slot;
  const int64_t slots = std::clamp<int64_t>(fitting, threads, chunk1 - chunk0);
  T* const values = scratch.reserve_as<T>(slot * slots + memory * threads);
  T* const space = values + slot * slots;
  std::vector<Partial<T>> partials;
  for (int64_t s = 0; s < slots; ++s) partials.push_back(partial_at(args, values + s * slot));

  for (int64_t wave = chunk0; wave < chunk1; wave += slots) {
    const int64_t count = std::min(slots, chunk1 - wave);
    parallel_for(count, threads, [&](int64_t begin, int64_t end, int thread) {
      Chunk<T> chunk(plan, space + memory * thread);
      for (int64_t s = begin; s < end; ++s)
        chunk.run((wave + s) * L<T>, rows_of(args, wave + s), partials[static_cast<size_t>(s)]);
    });
    for (int64_t s = 0; s < count; ++s)
      add(args, rows_of(args, wave + s), partials[static_cast<size_t>(s)], sums);
  }
}

}  // namespace

template <class T>
void linear(const LinearArgs<T>& args, int64_t chunk0, int64_t chunk1, LinearSums& sums) {
  if (linear_in_place(args, sums)) return;
  const int64_t chunks = chunk1 - chunk0;
  const int64_t work = 2 * (std::min(args.n, chunks * L<T>) * args.t) * (args.d + 4);
  const int threads = threads_for(chunks, work);
  if (threads == 1)
    linear_serial(args, chunk0, chunk1, sums);
  else
    linear_parallel(args, chunk0, chunk1, sums, threads);
  scratch.trim();
}

template <class T>
void linear_each(int64_t count, const LinearArgs<T>* args, LinearSums* sums) {
  int64_t work = 0;
  for (int64_t i = 0; i < count; ++i) work += 2 * args[i].n * args[i].t * (args[i].d + 4);
  // Many problems: whole ones to each thread. Few: threads inside each.
  const int threads = count >= 2 * num_threads() ? threads_for(count, work) : 1;
  parallel_for(count, threads, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      sums[i].reset(args[i].d, args[i].t);
      linear(args[i], 0, chunks_of(args[i].n, L<T>), sums[i]);
    }
  });
}

#define GDCORE_INSTANTIATE(T)                                                   \
  template void linear<T>(const LinearArgs<T>&, int64_t, int64_t, LinearSums&); \
  template void linear_each<T>(int64_t, const LinearArgs<T>*, LinearSums*);
GDCORE_INSTANTIATE(float)
GDCORE_INSTANTIATE(double)

}  // namespace gdcore::cpu
