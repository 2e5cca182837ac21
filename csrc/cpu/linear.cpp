// Loss and gradient of a linear model over a range of row chunks: X is read once from memory.
#include <algorithm>
#include <cstring>

#include "cpu/dispatch.hpp"
#include "cpu/operations.hpp"
#include "cpu/parallel.hpp"
#include "cpu/scratch.hpp"

namespace gdcore::cpu {
namespace {

constexpr size_t copied_bytes = 16384;  // of X, to be read again while they are in L1

// From here on several chunks are read at a time; below, that takes up to twice as long.
constexpr int64_t memory_bytes = 32 << 20;

template <class T>
bool from_memory(const LinearArgs<T>& args) {
  return args.n * args.d * static_cast<int64_t>(sizeof(T)) >= memory_bytes;
}

// What one chunk adds, in T: X^T r (d,t), 1^T r (t), squares of each L elements (t), one after the
// other. The sum of its sample weights is kept apart, in double.
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
int64_t rows_of(const LinearArgs<T>& args, int64_t chunk) {
  return std::min(L<T>, args.n - chunk * L<T>);
}

// How a chunk is read, and the memory that takes, the same for every chunk of a call.
template <class T>
struct Plan {
  const LinearArgs<T>& args;
  int64_t block;  // rows of X that are copied at once
  bool copy_X, copy_y, copy_offset, copy_weight;
  int64_t size_X, size_y, size_weights, size_packing;

  explicit Plan(const LinearArgs<T>& a) : args(a) {
    const int64_t rows = std::min(a.n, L<T>);
    const bool narrow = a.d <= 16, lone = a.n == 1;
    block = rows;
    if (a.t == 1 && !narrow) {
      const int64_t fitting = static_cast<int64_t>(copied_bytes / sizeof(T)) / a.d;
      block = std::clamp<int64_t>(fitting / 16 * 16, 16, L<T>);
    }
    const bool unit_rows = a.X.cs == 1 || a.d == 1, packed_rows = a.X.rs == a.d || lone;
    copy_X = a.order || a.scaling || (a.t == 1 && (!unit_rows || (narrow && !packed_rows)));
    const auto in_place = [&](const Matrix<const T>& m) {
      return !a.order && (m.cs == 1 || a.t == 1) && (m.rs == a.t || lone);
    };
    copy_y = a.y.data && (a.scaling || !in_place(a.y));
    copy_offset = a.offset.data && !in_place(a.offset);
    copy_weight =
        a.sample_weight.data && (a.order || a.t > 1 || !(a.sample_weight.stride == 1 || lone));
    size_X = copy_X ? lines<T>(block * a.d) : 0;
    size_y = lines<T>(rows * a.t);
    size_weights = a.t == 1 && a.d > 1 && a.weights.rs != 1 ? lines<T>(a.d) : 0;
    size_packing =
        a.t == 1
            ? 0
            : lines<T>(std::max(packing_size<T>(rows, a.t, a.d), packing_size<T>(a.d, a.t, rows)));
  }

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
class Chunk {
 public:
  Chunk(const Plan<T>& plan, T* memory) : plan_(plan), args_(plan.args) {
    const auto take = [&](int64_t size) {
      T* at = memory;
      memory += size;
      return at;
    };
    if (args_.order) rows_ = reinterpret_cast<int64_t*>(take(plan.size_order()));
    if (args_.t > 1) r_ = take(plan.size_y);
    weights_ = take(plan.size_weights);
    X_ = take(plan.size_X);
    if (plan.copy_y) y_ = take(plan.size_y);
    if (plan.copy_offset) offset_ = take(plan.size_y);
    if (plan.copy_weight) weight_ = take(plan.size_y);
    packing_ = take(plan.size_packing);
  }

  // Chunks [chunk0, chunk1), each into its slot; totals: the sums of their sample weights, if any.
  void run(int64_t chunk0, int64_t chunk1, T* slots, double* totals) {
    const int64_t slot = slot_size(args_);
    const bool together = args_.t == 1 && args_.d > 0 && plan_.in_place();
    if (together) {
      locate(chunk0 * L<T>, std::min(args_.n, chunk1 * L<T>) - chunk0 * L<T>);
      isa<T>().linear_rows(rows(), slots, slot);
    }
    for (int64_t c = chunk0; c < chunk1; ++c) {
      locate(c * L<T>, rows_of(args_, c));
      if (args_.sample_weight.data) totals[c - chunk0] = sum_of_weights();
      if (!together) run_one(slots + (c - chunk0) * slot);
    }
  }

 private:
  void locate(int64_t begin, int64_t n) {
    begin_ = args_.first + begin;
    n_ = n;
    if (!rows_) return;
    args_.order->rows(begin_, n, rows_);
    constexpr int64_t line = 64 / sizeof(T), most_lines = 4;
    for (int64_t i = 0; i < n; ++i) {  // all of them at once: each is somewhere else
      const T* const x = args_.X.data + rows_[i] * args_.X.rs;
      for (int64_t j = 0; j < std::min(args_.d, most_lines * line); j += line)
        __builtin_prefetch(x + j * args_.X.cs);
      if (args_.y.data) __builtin_prefetch(args_.y.data + rows_[i] * args_.y.rs);
    }
  }

  void run_one(T* slot) {
    if (args_.t == 1)
      single_target(slot);
    else
      several_targets(partial_at(args_, slot));
  }

  int64_t row(int64_t i) const { return rows_ ? rows_[i] : begin_ + i; }

  // Rows [begin_, begin_ + n_) of a (n,t) matrix, contiguous.
  const T* elements(const Matrix<const T>& m, bool copy, T* out) const {
    if (!copy) return m.data + begin_ * m.rs;
    for (int64_t i = 0; i < n_; ++i)
      for (int64_t u = 0; u < args_.t; ++u) out[i * args_.t + u] = m.data[row(i) * m.rs + u * m.cs];
    return out;
  }

  const T* targets() const {
    if (!args_.y.data) return nullptr;
    const T* const y = elements(args_.y, plan_.copy_y, y_);
    for (int64_t i = 0; args_.scaling && i < n_; ++i)
      for (int64_t u = 0; u < args_.t; ++u)
        y_[i * args_.t + u] = args_.scaled_y(y[i * args_.t + u], u);
    return y;
  }

  const T* offsets() const {
    return args_.offset.data ? elements(args_.offset, plan_.copy_offset, offset_) : nullptr;
  }

  double sum_of_weights() const {
    double total = 0;
    for (int64_t i = 0; i < n_; ++i)
      total += args_.sample_weight.data[row(i) * args_.sample_weight.stride];
    return total;
  }

  const T* sample_weights() const {
    const Vector<const T>& s = args_.sample_weight;
    if (!s.data) return nullptr;
    if (!plan_.copy_weight) return s.data + begin_ * s.stride;
    for (int64_t i = 0; i < n_; ++i)
      for (int64_t u = 0; u < args_.t; ++u) weight_[i * args_.t + u] = s.data[row(i) * s.stride];
    return weight_;
  }

  // Rows [i0, i0 + rows) of the chunk, their elements together.
  const T* X_rows(int64_t i0, int64_t rows, int64_t& ld) const {
    ld = plan_.copy_X ? args_.d : args_.X.rs;
    const T* const first = args_.X.data + (begin_ + i0) * args_.X.rs;
    if (!plan_.copy_X) return first;
    if (!rows_)
      isa<T>().pack({1, rows, static_cast<int>(args_.d), static_cast<int>(args_.d), first,
                     args_.X.rs, args_.X.cs, 0, X_});
    else
      gather_rows(i0, rows);
    for (int64_t i = 0; args_.scaling && i < rows; ++i)
      for (int64_t j = 0; j < args_.d; ++j)
        X_[i * args_.d + j] = args_.scaled_x(X_[i * args_.d + j], j);
    return X_;
  }

  void gather_rows(int64_t i0, int64_t rows) const {
    const int64_t d = args_.d, rs = args_.X.rs, cs = args_.X.cs;
    T* to = X_;
    for (int64_t i = i0; i < i0 + rows; ++i) {
      const T* from = args_.X.data + rows_[i] * rs;
      if (cs == 1)
        std::memcpy(to, from, static_cast<size_t>(d) * sizeof(T));
      else
        for (int64_t j = 0; j < d; ++j) to[j] = from[j * cs];
      to += d;
    }
  }

  // All rows as the kernels want them, but for X where it has to be copied.
  LinearRows<T> rows() const {
    return {n_,
            args_.d,
            args_.X.data ? args_.X.data + begin_ * args_.X.rs : nullptr,
            args_.X.rs,
            weights(),
            args_.intercept.data,
            offsets(),
            targets(),
            sample_weights(),
            from_memory(args_),
            args_.loss};
  }

  void single_target(T* slot) const {
    const LinearRows<T> all = rows();
    LinearRows<T> x = all;
    if (plan_.copy_X && plan_.block >= n_) x.X = X_rows(0, n_, x.ldx);
    if (!plan_.copy_X || plan_.block >= n_) return isa<T>().linear_rows(x, slot, 0);
    alignas(64) T lanes[2 * V];
    for (int64_t i = 0; i < n_; i += plan_.block) {
      x.rows = std::min(plan_.block, n_ - i);
      x.X = X_rows(i, x.rows, x.ldx);
      if (all.y) x.y = all.y + i;
      if (all.offset) x.offset = all.offset + i;
      if (all.sample_weight) x.sample_weight = all.sample_weight + i;
      isa<T>().linear_block(x, slot, lanes, i == 0, i + x.rows == n_);
    }
  }

  const T* weights() const {
    const Matrix<const T>& w = args_.weights;
    if (w.rs == 1 || args_.d == 1) return w.data;
    for (int64_t j = 0; j < args_.d; ++j) weights_[j] = w.data[j * w.rs];
    return weights_;
  }

  void several_targets(const Partial<T>& out) {
    const int64_t d = args_.d, t = args_.t;
    const T *y = targets(), *offset = offsets(), *weight = sample_weights();
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
      LinearRows<T> x{};
      if (offset) x.offset = offset + e;
      if (y) x.y = y + e;
      if (weight) x.sample_weight = weight + e;
      x.loss = args_.loss;
      isa<T>().residuals(std::min(L<T>, n_ * t - e), r_ + e, x, out.squares + e / L<T>);
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
  T *weights_, *X_, *packing_;
  T *r_ = nullptr, *y_ = nullptr, *offset_ = nullptr, *weight_ = nullptr;
};

// Adds the slots of chunks [chunk0, chunk1), in their order.
template <class T>
void add(const LinearArgs<T>& args, int64_t chunk0, int64_t chunk1, T* slots, const double* totals,
         LinearSums& sums) {
  const auto add_to = [](std::vector<double>& to, const T* from) {
    for (double& sum : to) sum += *from++;
  };
  for (int64_t c = chunk0; c < chunk1; ++c, slots += slot_size(args)) {
    const Partial<T> partial = partial_at(args, slots);
    const int64_t parts = chunks_of(rows_of(args, c) * args.t, L<T>);
    sums.begin_segment();
    for (int64_t e = 0; e < parts; ++e) sums.add_squares(partial.squares[e]);
    if (args.sample_weight.data) sums.sample_weight += totals[c - chunk0];
    add_to(sums.weights, partial.weights);
    add_to(sums.intercept, partial.intercept);
  }
}

constexpr int64_t slots_bytes = 4 << 20;  // partials waiting for their turn
constexpr int64_t slots_bytes_serial = 16 << 10;
constexpr int64_t chunks_in_turn = 16;

thread_local Scratch scratch;

// One target that lies as the kernels want it, few features: nothing to plan, to copy or to
// allocate. False if it does not. Small fits spend their time here.
template <class T>
bool linear_in_place(const LinearArgs<T>& args, int64_t chunk0, int64_t chunk1, LinearSums& sums) {
  constexpr int64_t most_d = 62;
  const int64_t n = args.n, d = args.d;
  const auto unit = [&](int64_t stride) { return stride == 1 || n == 1; };
  const bool X_fits = (args.X.cs == 1 || d == 1) && (args.X.rs == d || n == 1);
  if (args.t != 1 || d < 1 || d > most_d || args.order || args.scaling || !X_fits ||
      (d > 1 && args.weights.rs != 1) || (args.y.data && !unit(args.y.rs)) ||
      (args.offset.data && !unit(args.offset.rs)) || args.sample_weight.data)
    return false;
  alignas(64) T slots[chunks_in_turn * (most_d + 2)];
  for (int64_t c = chunk0; c < chunk1; c += chunks_in_turn) {
    const int64_t end = std::min(chunk1, c + chunks_in_turn), first = args.first + c * L<T>;
    const LinearRows<T> x{std::min(n, end * L<T>) - c * L<T>,
                          d,
                          args.X.data + first * args.X.rs,
                          d,
                          args.weights.data,
                          args.intercept.data,
                          args.offset.data ? args.offset.data + first * args.offset.rs : nullptr,
                          args.y.data ? args.y.data + first * args.y.rs : nullptr,
                          nullptr,
                          from_memory(args),
                          args.loss};
    isa<T>().linear_rows(x, slots, slot_size(args));
    add(args, c, end, slots, nullptr, sums);
  }
  return true;
}

// In waves: threads fill slots, then the slots are added in the order of the chunks.
template <class T>
void linear_planned(const LinearArgs<T>& args, int64_t chunk0, int64_t chunk1, LinearSums& sums,
                    int threads) {
  const Plan<T> plan(args);
  const int64_t slot = slot_size(args), memory = apart<T>(plan.size());
  const int64_t bytes = threads == 1 ? slots_bytes_serial : slots_bytes;
  const int64_t fitting = bytes / static_cast<int64_t>(sizeof(T)) / std::max<int64_t>(slot, 1);
  const int64_t slots =
      std::clamp<int64_t>(fitting, threads, std::max<int64_t>(threads, chunk1 - chunk0));
  T* const values = scratch.reserve_as<T>(apart<T>(slot * slots) + memory * threads);
  T* const space = values + apart<T>(slot * slots);
  std::vector<double> totals(static_cast<size_t>(args.sample_weight.data ? slots : 0));
  const auto total = [&](int64_t s) {
    return totals.empty() ? nullptr : &totals[static_cast<size_t>(s)];
  };

  for (int64_t wave = chunk0; wave < chunk1; wave += slots) {
    const int64_t count = std::min(slots, chunk1 - wave);
    parallel_for(count, threads, [&](int64_t begin, int64_t end, int thread) {
      Chunk<T> chunk(plan, space + memory * thread);
      chunk.run(wave + begin, wave + end, values + begin * slot, total(begin));
    });
    add(args, wave, wave + count, values, total(0), sums);
  }
}

}  // namespace

template <class T>
void linear(const LinearArgs<T>& args, int64_t chunk0, int64_t chunk1, LinearSums& sums) {
  const int64_t chunks = chunk1 - chunk0;
  const int64_t work = 2 * (std::min(args.n, chunks * L<T>) * args.t) * (args.d + 1);
  const int threads = threads_for(chunks, work);
  if (threads == 1 && linear_in_place(args, chunk0, chunk1, sums)) return;
  linear_planned(args, chunk0, chunk1, sums, threads);
  scratch.trim();
}

template <class T>
void linear_each(int64_t count, const LossArgs<T>* args) {
  int64_t work = 0;
  for (int64_t i = 0; i < count; ++i) {
    const LinearArgs<T>& rows = args[i].rows;
    work += 2 * rows.n * rows.t * (rows.d + 1);
  }
  // Many problems: whole ones to each thread. Few: threads inside each.
  const int threads = count >= 2 * num_threads() ? threads_for(count, work) : 1;
  parallel_for(count, threads, [&](int64_t begin, int64_t end, int) {
    LinearSums sums;
    for (int64_t i = begin; i < end; ++i) {
      const LinearArgs<T>& rows = args[i].rows;
      sums.reset(rows.d, rows.t);
      linear(rows, 0, chunks_of(rows.n, L<T>), sums);
      sums.close();
      write_loss(args[i], sums);
    }
  });
}

#define GDCORE_INSTANTIATE(T)                                                   \
  template void linear<T>(const LinearArgs<T>&, int64_t, int64_t, LinearSums&); \
  template void linear_each<T>(int64_t, const LossArgs<T>*);
GDCORE_INSTANTIATE(float)
GDCORE_INSTANTIATE(double)

}  // namespace gdcore::cpu
