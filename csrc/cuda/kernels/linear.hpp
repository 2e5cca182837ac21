// Partials of segments of rows: the loss and the gradient of linear models with one target.
#pragma once

#include "cuda/kernels/in_order.hpp"
#include "cuda/kernels/linear_params.hpp"
#include "cuda/kernels/rows.hpp"

namespace gdcore::cuda {

// A segment of a problem, and where its model lies.
template <class T>
struct LinearUnit {
  Rows<T> rows;
  const T *parameters, *intercept;  // intercept may be null
  int64_t parameters_rs;
  int64_t begin;  // position of its first row
  int count;      // rows
};

template <class T>
GDCORE_DEVICE LinearUnit<T> unit_of(const LinearParams<T>& p, int64_t index) {
  const int64_t i = index / p.segments, segment = p.segment0 + index % p.segments;
  const int64_t begin = segment * L<T>, left = p.n - begin;
  LinearUnit<T> u{p.rows,          p.parameters,    p.intercept,
                  p.parameters_rs, p.first + begin, static_cast<int>(left < L<T> ? left : L<T>)};
  if (p.table) {
    const LinearArrays<T> at = p.table[i];
    u.rows.X = at.X;
    u.rows.y = at.y;
    u.rows.offset = at.offset;
    u.rows.weight = at.weight;
    u.parameters = at.parameters;
    u.intercept = at.intercept;
  } else if (i > 0) {
    u.rows.X += i * p.steps.X;
    if (u.rows.y) u.rows.y += i * p.steps.y;
    if (u.rows.offset) u.rows.offset += i * p.steps.offset;
    if (u.rows.weight) u.rows.weight += i * p.steps.weight;
    u.parameters += i * p.steps.parameters;
    if (u.intercept) u.intercept += i * p.steps.intercept;
  }
  if (p.parameters_inside) {
    u.parameters = p.inside;
    u.intercept = p.has_intercept ? p.inside + p.rows.d : nullptr;
  }
  return u;
}

// ---- A block a segment ----

template <class T>
GDCORE_DEVICE void linear_rows(const LinearParams<T>& p) {
  const int t = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x), d = p.rows.d;
  unsigned char* const at = shared_memory(linear_rows_bytes<T>(d, p.tile_rows));
  const RowsShared<T> s = rows_shared<T>(at, d, p.tile_rows);
  T* const w = reinterpret_cast<T*>(at + rows_bytes<T>(d, p.tile_rows));
  const int64_t index = blockIdx.x;
  const LinearUnit<T> u = unit_of(p, index);
  for (int j = t; j < d; j += threads) w[j] = u.parameters[j * u.parameters_rs];
  if (t == 0 && u.intercept) w[d] = *u.intercept;
  T* const partials = p.partials + index * (d + 2);
  add_segment(u.rows, p.order, u.begin, u.count, w, u.intercept ? w + d : nullptr, s,
              [&](int entry, double value) {
                if (entry < d + 2)
                  partials[entry] = static_cast<T>(value);
                else
                  p.weight_sums[index] = value;
              });
}

// ---- Few features: half a warp a segment ----

// Thread `lane` of the half has the rows `lane`, lane + 16, ... of the segment: those of its chain
// of each feature and its lanes of the other sums. Nothing is shared.
template <class T, int D>
struct FewFeatures {
  T chain[D > 0 ? D : 1], intercept, squares;
  T w[D > 0 ? D : 1];

  // Rows of `Rounds` rounds, all there, so that their loads are in flight together. Plain: squared
  // errors of rows as they are. All else takes a round at a time, or its code would be unrolled.
  template <bool Plain, int Rounds, class RowAt>
  GDCORE_DEVICE void add(const LinearParams<T>& p, const LinearUnit<T>& u, T b, int i,
                         const RowAt& row_at) {
    int64_t row[Rounds];
    T x[Rounds][D > 0 ? D : 1] = {}, y[Rounds] = {}, offset[Rounds] = {}, weight[Rounds] = {};
    GDCORE_UNROLL
    for (int k = 0; k < Rounds; ++k) row[k] = row_at(u.begin + i + k * V);
    if (p.packed) {
      constexpr int width = D == 3 || D == 0 ? 1 : sizeof(T) * D > 16 ? 2 : D;
      GDCORE_UNROLL
      for (int k = 0; k < Rounds; ++k) GDCORE_UNROLL
      for (int j = 0; j < D; j += width) {
        const auto pack = *reinterpret_cast<const Pack<T, width>*>(u.rows.X + row[k] * D + j);
        GDCORE_UNROLL
        for (int l = 0; l < width; ++l) x[k][j + l] = pack.v[l];
      }
    } else {
      GDCORE_UNROLL
      for (int k = 0; k < Rounds; ++k) GDCORE_UNROLL
      for (int j = 0; j < D; ++j) x[k][j] = u.rows.X[row[k] * u.rows.X_rs + j * u.rows.X_cs];
    }
    if (u.rows.y) GDCORE_UNROLL
    for (int k = 0; k < Rounds; ++k) y[k] = u.rows.y[row[k] * u.rows.y_rs];
    if (u.rows.offset) GDCORE_UNROLL
    for (int k = 0; k < Rounds; ++k) offset[k] = u.rows.offset[row[k] * u.rows.offset_rs];
    if (u.rows.weight) GDCORE_UNROLL
    for (int k = 0; k < Rounds; ++k) weight[k] = u.rows.weight[row[k] * u.rows.weight_rs];
    GDCORE_UNROLL
    for (int k = 0; k < Rounds; ++k) {
      if (!Plain && u.rows.scaling) {
        GDCORE_UNROLL
        for (int j = 0; j < D; ++j) x[k][j] = scaled_x(u.rows, x[k][j], j);
        if (u.rows.y) y[k] = scaled_y(u.rows, y[k]);
      }
      T r = dot(x[k]);
      if (u.intercept) r += b;
      if (u.rows.offset) r += offset[k];
      if (u.rows.y) r -= y[k];
      const LossChoice loss = Plain ? LossChoice{} : u.rows.loss;
      const Slope<T> slope = slope_of(loss, r, u.rows.weight != nullptr, weight[k]);
      GDCORE_UNROLL
      for (int j = 0; j < D; ++j) chain[j] = fma(slope.weighted, x[k][j], chain[j]);
      intercept += slope.weighted;
      squares = fma(slope.weighted, slope.ratio, squares);
    }
  }
  GDCORE_DEVICE T dot(const T* x) const {
    constexpr int lanes = static_cast<int>(lanes_of(D));
    T acc[lanes];
    GDCORE_UNROLL
    for (int l = 0; l < lanes; ++l) acc[l] = l < D ? fma(x[l], w[l], T(0)) : T(0);
    return fold_lanes<lanes>(acc);
  }
};

// `u` is unit `index`, or if that is not `active` another, so that all threads of a warp take part.
template <class T, int D>
GDCORE_DEVICE void few_features(const LinearParams<T>& p, const LinearUnit<T>& u, int64_t index,
                                bool active) {
  const int lane = static_cast<int>(threadIdx.x) % V;
  FewFeatures<T, D> sums{};
  GDCORE_UNROLL
  for (int j = 0; j < D; ++j) sums.w[j] = u.parameters[j * u.parameters_rs];
  const T b = u.intercept ? *u.intercept : T(0);
  constexpr int rounds = (D <= 2 ? 32 : 16) / static_cast<int>(sizeof(T));
  int i = lane;
  const auto in_place = [](int64_t position) { return position; };
  const bool plain = !u.rows.scaling && u.rows.loss.place == LossChoice{}.place;
  for (; plain && !p.ordered && i + (rounds - 1) * V < u.count; i += rounds * V)
    sums.template add<true, rounds>(p, u, b, i, in_place);
  for (; i < u.count; i += V) sums.template add<false, 1>(p, u, b, i, p.order);

  T* const partials = p.partials + index * (D + 2);
  GDCORE_UNROLL
  for (int j = 0; j < D; ++j) {
    const T sum = fold_threads<V>(sums.chain[j]);
    if (active && lane == 0) partials[j] = sum;
  }
  const T intercept = fold_threads<V>(sums.intercept), squares = fold_threads<V>(sums.squares);
  if (active && lane == 0) {
    partials[D] = intercept;
    partials[D + 1] = squares;
  }
}

// The sum of a segment's weights, a chain over all its rows. They come from the cache.
template <class T>
GDCORE_DEVICE double weights_of(const LinearParams<T>& p, const LinearUnit<T>& u) {
  const T* const weight = u.rows.weight;
  const int64_t stride = u.rows.weight_rs;
  if (!p.ordered) return add_in_order(0.0, weight + u.begin * stride, stride, u.count);
  double sum = 0;
  for (int k = 0; k < u.count; ++k)
    sum += static_cast<double>(weight[p.order(u.begin + k) * stride]);
  return sum;
}

template <class T>
GDCORE_DEVICE void linear_few(const LinearParams<T>& p) {
  const int t = static_cast<int>(threadIdx.x);
  const int64_t units_of_block = blockDim.x / V, units = p.problems * p.segments;
  const int64_t first = blockIdx.x * units_of_block, index = first + t / V;
  const bool active = index < units;
  const LinearUnit<T> u = unit_of(p, active ? index : units - 1);
  switch (p.rows.d) {
    case 0: few_features<T, 0>(p, u, index, active); break;
    case 1: few_features<T, 1>(p, u, index, active); break;
    case 2: few_features<T, 2>(p, u, index, active); break;
    case 3: few_features<T, 3>(p, u, index, active); break;
    default: few_features<T, 4>(p, u, index, active);
  }
  // A thread a segment, so that one warp has all of the block's.
  if (p.weight_sums && t < units_of_block && first + t < units)
    p.weight_sums[first + t] = weights_of(p, unit_of(p, first + t));
}

// ---- Rows too long for shared memory: X is read twice ----

// See dot_by_half_warp.
template <class T>
GDCORE_DEVICE T row_times_weights(const LinearUnit<T>& u, int d, int64_t row, bool active) {
  const int lane = static_cast<int>(threadIdx.x) % V;
  const T* const x = u.rows.X + row * u.rows.X_rs;
  LongChain<T> total;
  for (int64_t p0 = 0; p0 < d; p0 += L<T>) {
    const int64_t end = d - p0 < L<T> ? d : p0 + L<T>;
    T acc = T(0);
    if (active)
      for (int64_t j = p0 + lane; j < end; j += V)
        acc = fma(scaled_x(u.rows, x[j * u.rows.X_cs], static_cast<int>(j)),
                  u.parameters[j * u.parameters_rs], acc);
    total.add(fold_threads<V>(acc));
  }
  return total.total();
}

// The slopes of a segment's rows, each by half a warp; and all sums but X^T residual.
template <class T>
GDCORE_DEVICE void linear_slopes(const LinearParams<T>& p) {
  const int t = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x), d = p.rows.d;
  T* const weighted = reinterpret_cast<T*>(shared_memory(3 * L<T> * sizeof(T)));
  T *const ratio = weighted + L<T>, *const weight = ratio + L<T>;
  const int64_t index = blockIdx.x;
  const LinearUnit<T> u = unit_of(p, index);
  for (int i0 = 0; i0 < u.count; i0 += threads / V) {
    const int i = i0 + t / V;
    const bool active = i < u.count;
    const int64_t row = p.order(u.begin + (active ? i : 0));
    if (active && t % V == 0) p.row_numbers[index * L<T> + i] = row;
    const T product = row_times_weights(u, d, row, active);
    if (!active || t % V != 0) continue;
    const Slope<T> slope = slope_of_row(u.rows, row, product, u.intercept);
    weighted[i] = slope.weighted;
    ratio[i] = slope.ratio;
    if (u.rows.weight) weight[i] = u.rows.weight[row * u.rows.weight_rs];
  }
  __syncthreads();
  for (int i = t; i < u.count; i += threads) p.slopes[index * L<T> + i] = weighted[i];
  if (t >= 32) return;
  T acc = T(0);
  for (int i = t % V; i < u.count; i += V)
    acc = t < V ? acc + weighted[i] : fma(weighted[i], ratio[i], acc);
  acc = fold_threads<V>(acc);
  if (t % V == 0) p.partials[index * (d + 2) + d + t / V] = acc;
  if (!u.rows.weight || t != 0) return;
  double weights = 0;
  for (int i = 0; i < u.count; ++i) weights += static_cast<double>(weight[i]);
  p.weight_sums[index] = weights;
}

// X^T residual of a segment, a thread a feature.
template <class T>
GDCORE_DEVICE void linear_columns(const LinearParams<T>& p) {
  constexpr int batch = 8;
  const int t = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x), d = p.rows.d;
  const int64_t parts = (d + threads - 1) / threads, index = blockIdx.x / parts;
  const int64_t j = blockIdx.x % parts * threads + t;
  if (j >= d) return;
  const LinearUnit<T> u = unit_of(p, index);
  const T* const slopes = p.slopes + index * L<T>;
  const int64_t* const rows = p.row_numbers + index * L<T>;
  T acc = T(0);
  int i = 0;
  const auto value = [&](int k) { return u.rows.X[rows[k] * u.rows.X_rs + j * u.rows.X_cs]; };
  for (; i + batch <= u.count; i += batch) {
    T x[batch];
    GDCORE_UNROLL
    for (int k = 0; k < batch; ++k) x[k] = value(i + k);
    GDCORE_UNROLL
    for (int k = 0; k < batch; ++k)
      acc = fma(slopes[i + k], scaled_x(u.rows, x[k], static_cast<int>(j)), acc);
  }
  for (; i < u.count; ++i)
    acc = fma(slopes[i], scaled_x(u.rows, value(i), static_cast<int>(j)), acc);
  p.partials[index * (d + 2) + j] = acc;
}

}  // namespace gdcore::cuda
