// Sums over the rows of one target, a segment by a block: X is read once.
#pragma once

#include "cuda/kernels/language.hpp"
#include "cuda/kernels/rows_params.hpp"

namespace gdcore::cuda {

// A long sum (docs/numerics.md, rule 2) in registers: an array of levels would lie in memory.
template <class T>
class LongChain {
 public:
  GDCORE_DEVICE void add(T partial) {
    if (count_ > 0 && count_ % fan_in == 0) move_up();
    zero_ = count_ % fan_in == 0 ? partial : zero_ + partial;
    ++count_;
  }
  GDCORE_DEVICE T total() const {
    T sum = zero_;
    if (has_one_) sum = one_ + sum;
    if (has_two_) sum = two_ + sum;
    if (has_three_) sum = three_ + sum;
    return sum;
  }

 private:
  GDCORE_DEVICE void move_up() {
    one_ = has_one_ ? one_ + zero_ : zero_;
    has_one_ = true;
    if (count_ % (fan_in * fan_in) != 0) return;
    two_ = has_two_ ? two_ + one_ : one_;
    has_two_ = true;
    has_one_ = false;
    if (count_ % (fan_in * fan_in * fan_in) != 0) return;
    three_ = has_three_ ? three_ + two_ : two_;
    has_three_ = true;
    has_two_ = false;
  }

  int64_t count_ = 0;
  T zero_ = T(0), one_ = T(0), two_ = T(0), three_ = T(0);
  bool has_one_ = false, has_two_ = false, has_three_ = false;
};

// Lane i takes lane i + Lanes / 2, and so on: a recursion, since a loop that halves would not be
// unrolled and would put the lanes into memory.
template <int Lanes, class T>
GDCORE_DEVICE T fold_lanes(T* acc) {
  if constexpr (Lanes == 1) {
    return acc[0];
  } else {
    GDCORE_UNROLL
    for (int l = 0; l < Lanes / 2; ++l) acc[l] += acc[l + Lanes / 2];
    return fold_lanes<Lanes / 2>(acc);
  }
}

// The same with a lane in each of `Lanes` neighbouring threads: the sum is in the first of them.
// All threads of the warp call it.
template <int Lanes, class T>
GDCORE_DEVICE T fold_threads(T acc) {
  if constexpr (Lanes > 1) {
    acc += __shfl_down_sync(0xffffffffu, acc, Lanes / 2, Lanes);
    return fold_threads<Lanes / 2>(acc);
  } else {
    return acc;
  }
}

// x . w for d <= 16 by one thread: each lane has one product at most.
template <int Lanes, class T>
GDCORE_DEVICE T dot_of_lanes(int d, const T* x, const T* w) {
  T acc[Lanes];
  GDCORE_UNROLL
  for (int l = 0; l < Lanes; ++l) acc[l] = l < d ? fma(x[l], w[l], T(0)) : T(0);
  return fold_lanes<Lanes>(acc);
}
template <class T>
GDCORE_DEVICE T dot_by_thread(int d, const T* x, const T* w) {
  if (d > 8) return dot_of_lanes<16>(d, x, w);
  if (d > 4) return dot_of_lanes<8>(d, x, w);
  if (d > 2) return dot_of_lanes<4>(d, x, w);
  if (d > 1) return dot_of_lanes<2>(d, x, w);
  return d > 0 ? fma(x[0], w[0], T(0)) : T(0);
}

// x . w for d > 16, a lane in each thread of half a warp; the product is in the first thread. All
// threads of the warp call it; `active` is that of a half.
template <class T>
GDCORE_DEVICE T dot_by_half_warp(int64_t d, const T* x, int64_t x_stride, const T* w,
                                 int64_t w_stride, bool active) {
  const int lane = static_cast<int>(threadIdx.x) % V;
  LongChain<T> total;
  for (int64_t p0 = 0; p0 < d; p0 += L<T>) {
    const int64_t end = d - p0 < L<T> ? d : p0 + L<T>;
    T acc = T(0);
    if (active)
      for (int64_t p = p0 + lane; p < end; p += V) acc = fma(x[p * x_stride], w[p * w_stride], acc);
    total.add(fold_threads<V>(acc));
  }
  return total.total();
}

// What a row adds to the sums.
template <class T>
struct Slope {
  T weighted, ratio;  // the sample weight times the slope; see loss.hpp
};

template <class T>
GDCORE_DEVICE Slope<T> slope_of(const LossChoice& choice, T residual, bool weighted, T weight) {
  Slope<T> out = {};
  Losses::visit(choice, static_cast<T>(choice.delta), [&](auto loss) {
    const T slope = loss.slope(residual);
    out = {weighted ? weight * slope : slope, loss.ratio(residual, slope)};
  });
  return out;
}

template <class T>
GDCORE_DEVICE T scaled_x(const Rows<T>& p, T x, int j) {
  return p.scaling ? static_cast<T>((static_cast<double>(x) - p.scaling[j]) * p.scaling[p.d + j])
                   : x;
}
template <class T>
GDCORE_DEVICE T scaled_y(const Rows<T>& p, T y) {
  return p.scaling ? static_cast<T>(static_cast<double>(y) - p.scaling[2 * p.d]) : y;
}

// The slope of a row, from x . w.
template <class T>
GDCORE_DEVICE Slope<T> slope_of_row(const Rows<T>& p, int64_t row, T product, const T* intercept) {
  T r = product;
  if (intercept) r += *intercept;
  if (p.offset) r += p.offset[row * p.offset_rs];
  if (p.y) r -= scaled_y(p, p.y[row * p.y_rs]);
  return slope_of(p.loss, r, p.weight != nullptr, p.weight ? p.weight[row * p.weight_rs] : T(0));
}

template <class T>
struct RowsShared {
  int64_t* row;                                 // (tile_rows)
  T *weighted, *ratio, *weight, *chain, *tile;  // (tile_rows) three times; see rows_bytes
  int tile_rows;
};
// `at`: rows_bytes<T>(d, tile_rows) bytes, 8-byte aligned.
template <class T>
GDCORE_DEVICE RowsShared<T> rows_shared(unsigned char* at, int d, int tile_rows) {
  RowsShared<T> s;
  s.tile_rows = tile_rows;
  s.row = reinterpret_cast<int64_t*>(at);
  s.weighted = reinterpret_cast<T*>(s.row + tile_rows);
  s.ratio = s.weighted + tile_rows;
  s.weight = s.ratio + tile_rows;
  s.chain = s.weight + tile_rows;
  s.tile = s.chain + chain_slots(d);
  return s;
}

// Element e of a tile whose elements follow each other along `size`, for e = threadIdx.x and then
// every blockDim.x: no division in the loop.
class TileIndex {
 public:
  GDCORE_DEVICE TileIndex(int first, int step, int size)
      : size_(size),
        step_outer_(step / size),
        step_inner_(step % size),
        outer(first / size),
        inner(first % size) {}
  GDCORE_DEVICE void next() {
    outer += step_outer_;
    inner += step_inner_;
    if (inner >= size_) {
      inner -= size_;
      ++outer;
    }
  }

 private:
  int size_, step_outer_, step_inner_;

 public:
  int outer, inner;
};

// Copies `here` rows of X to the tile, standardised. Loads come in batches: stores to the tile
// between them would make each wait. Two blocks of 256 threads then have 24 KB on their way.
template <class T>
GDCORE_DEVICE void load_tile(const Rows<T>& p, const RowsShared<T>& s, int here) {
  constexpr int batch = sizeof(T) == 4 ? 12 : 8;
  const int t = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  const int ld = tile_stride(p.d), size = here * p.d;
  if (size == 0) return;
  const bool by_columns = p.X_rs == 1 && p.X_cs != 1;  // neighbouring threads, neighbouring memory
  TileIndex at(t, threads, by_columns ? here : p.d);
  for (int e = t; e < size; e += batch * threads) {
    T x[batch];
    int to[batch], column[batch];
    GDCORE_UNROLL
    for (int k = 0; k < batch; ++k) {
      const bool inside = e + k * threads < size;
      const int i = by_columns ? at.inner : at.outer, j = by_columns ? at.outer : at.inner;
      to[k] = inside ? i * ld + j : -1;
      column[k] = j;
      x[k] = inside ? p.X[s.row[i] * p.X_rs + j * p.X_cs] : T(0);
      at.next();
    }
    GDCORE_UNROLL
    for (int k = 0; k < batch; ++k)
      if (to[k] >= 0) s.tile[to[k]] = scaled_x(p, x[k], column[k]);
  }
}

// Slopes and ratios of the tile's rows.
template <class T>
GDCORE_DEVICE void tile_slopes(const Rows<T>& p, const RowsShared<T>& s, int here, const T* w,
                               const T* intercept) {
  const int t = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  const int ld = tile_stride(p.d);
  const bool by_thread = p.d <= V;
  if (!by_thread) {
    for (int i0 = 0; i0 < here; i0 += threads / V) {
      const int i = i0 + t / V;
      const bool active = i < here;
      const T* const x = s.tile + static_cast<int64_t>(active ? i : 0) * ld;
      const T product = dot_by_half_warp<T>(p.d, x, 1, w, 1, active);
      if (active && t % V == 0) s.ratio[i] = product;
    }
    __syncthreads();
  }
  for (int i = t; i < here; i += threads) {
    const T product =
        by_thread ? dot_by_thread(p.d, s.tile + static_cast<int64_t>(i) * ld, w) : s.ratio[i];
    const Slope<T> slope = slope_of_row(p, s.row[i], product, intercept);
    s.weighted[i] = slope.weighted;
    s.ratio[i] = slope.ratio;
    if (p.weight) s.weight[i] = p.weight[s.row[i] * p.weight_rs];
  }
}

// Adds the tile's rows to the chains of X^T residual.
template <class T>
GDCORE_DEVICE void add_tile(const RowsShared<T>& s, int d, int here, int chains, int thread,
                            int threads) {
  const int ld = tile_stride(d);
  for (int slot = thread; slot < d * chains; slot += threads) {
    const int j = slot / chains;
    T acc = s.chain[slot];
    for (int i = slot % chains; i < here; i += chains)
      acc = fma(s.weighted[i], s.tile[i * ld + j], acc);
    s.chain[slot] = acc;
  }
}

// Adds the rows at positions [begin, begin + count), count <= 512, one segment of the contract.
// Calls put(entry, partial), with a double that holds the partial exactly, once for each entry:
// X^T residual (d), 1^T residual, the squares, and the sum of weights if there are weights. Entries
// come from different threads; on return all have been put, for the whole block to see.
//
// All threads of the block call it with the same arguments; there are a multiple of 32. row_at maps
// a position to a row of the data (a Permutation does). w (d) and intercept, which may be null, are
// in shared memory or device memory, and do not change meanwhile. s.tile_rows is a multiple of 16.
// The call begins with a barrier: what was written to w before is seen.
template <class T, class RowAt, class Put>
GDCORE_DEVICE void add_segment(const Rows<T>& p, const RowAt& row_at, int64_t begin, int count,
                               const T* w, const T* intercept, const RowsShared<T>& s, Put&& put) {
  const int t = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x), d = p.d;
  const int chains = static_cast<int>(chains_of(d));
  // The last warp has the lanes; a block of one warp has all.
  const int chain_threads = threads > 32 ? threads - 32 : threads;
  const bool has_lanes = t >= threads - 32;
  for (int slot = t; slot < d * chains; slot += threads) s.chain[slot] = T(0);
  T lane_sum = T(0);
  double weights = 0;

  for (int i0 = 0; i0 < count; i0 += s.tile_rows) {
    const int here = count - i0 < s.tile_rows ? count - i0 : s.tile_rows;
    __syncthreads();  // the tile before this one has been read
    for (int i = t; i < here; i += threads) s.row[i] = row_at(begin + i0 + i);
    __syncthreads();
    load_tile(p, s, here);
    __syncthreads();
    tile_slopes(p, s, here, w, intercept);
    __syncthreads();
    if (t < chain_threads) add_tile(s, d, here, chains, t, chain_threads);
    if (has_lanes) {  // tiles begin at multiples of 16
      const int lane = t % V;
      if (t % 32 < V)
        for (int i = lane; i < here; i += V) lane_sum += s.weighted[i];
      else
        for (int i = lane; i < here; i += V) lane_sum = fma(s.weighted[i], s.ratio[i], lane_sum);
      if (p.weight && t % 32 == 0)
        for (int i = 0; i < here; ++i) weights += static_cast<double>(s.weight[i]);
    }
  }
  if (has_lanes) s.chain[d * chains + t % 32] = lane_sum;
  __syncthreads();
  for (int j = t; j < d; j += threads) {
    T sum;
    if (chains == 1) {
      sum = s.chain[j];
    } else if (chains == 2) {
      sum = fold_lanes<2>(s.chain + 2 * j);
    } else {
      sum = fold_lanes<V>(s.chain + V * j);
    }
    put(j, static_cast<double>(sum));
  }
  if (t == threads - 32 || t == threads - 31) {
    const int which = t - (threads - 32);
    put(d + which, static_cast<double>(fold_lanes<V>(s.chain + d * chains + V * which)));
  }
  if (p.weight && t == threads - 32) put(d + 2, weights);
  __syncthreads();
}

}  // namespace gdcore::cuda
