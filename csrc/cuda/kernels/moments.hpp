// Second moments: sums over rows of products of the columns [X 1 y - offset], each row times the
// root of its weight.
#pragma once

#include "cuda/kernels/language.hpp"
#include "cuda/kernels/moments_params.hpp"

namespace gdcore::cuda {

// A sum of products in double: over float32 data one fma each, over float64 data a pair (Dot2).
template <class T>
struct ProductSum {
  double hi, lo;
  GDCORE_DEVICE void add(double a, double b) {
    if constexpr (sizeof(T) == 4) {
      hi = fma(a, b, hi);
    } else {
      const double product = a * b, sum = hi + product, z = sum - hi;
      lo = lo + (((hi - (sum - z)) + (product - z)) + fma(a, b, -product));
      hi = sum;
    }
  }
};

template <class T>
GDCORE_DEVICE MomentsUnit<T> moments_unit(const MomentsParams<T>& p, int64_t index) {
  if (p.table) return p.table[index];
  MomentsUnit<T> u = p.all;
  const int64_t begin = (p.segment0 + index) * L<T>, left = u.count - begin;
  u.count = left < L<T> ? left : L<T>;
  if (u.row_numbers) {
    u.row_numbers += begin;
    return u;
  }
  u.X += begin * p.X_rs;
  if (u.y) u.y += begin * p.y_rs;
  if (u.offset) u.offset += begin * p.offset_rs;
  if (u.weight) u.weight += begin * p.weight_rs;
  return u;
}

// Column j of a row, in double, without the root of its weight.
template <class T>
GDCORE_DEVICE double moments_column(const MomentsParams<T>& p, const MomentsUnit<T>& u, int64_t row,
                                    int64_t j) {
  if (j < p.d) return static_cast<double>(u.X[row * p.X_rs + j * p.X_cs]);
  if (j == p.d) return 1.0;
  const int64_t target = j - p.d - 1;
  const double y = static_cast<double>(u.y[row * p.y_rs + target * p.y_cs]);
  if (!u.offset) return y;
  return y - static_cast<double>(u.offset[row * p.offset_rs + target * p.offset_cs]);
}

// Tile `index` of a triangle of `side` rows, by rows: row a, and column b >= a.
GDCORE_DEVICE void triangle_tile(int64_t index, int64_t side, int& a, int& b) {
  int64_t row = 0;
  while (row < side && index >= side - row) index -= side - row++;
  a = static_cast<int>(row);
  b = static_cast<int>(row + index);
}

// Which entries a thread has.
struct MomentsTile {
  bool any;
  int unit;                    // of the block
  int a, b;                    // first columns, as they are staged
  int64_t column_a, column_b;  // the same in the problem
};

template <int R, class T>
GDCORE_DEVICE MomentsTile moments_tile(const MomentsParams<T>& p) {
  const int t = static_cast<int>(threadIdx.x);
  const int64_t part = blockIdx.x % p.parts;
  MomentsTile tile{};
  if (p.squares) {
    constexpr int columns = square_threads * R;
    const int64_t blocks = (p.d + 1 + p.t + columns - 1) / columns;
    int block_a, block_b;
    triangle_tile(part, blocks, block_a, block_b);
    tile.a = t / square_threads;
    tile.b = t % square_threads;
    tile.any = block_a < block_b || tile.a <= tile.b;
    tile.column_a = static_cast<int64_t>(block_a) * columns + tile.a;
    tile.column_b = static_cast<int64_t>(block_b) * columns + tile.b;
    tile.b += columns;  // staged behind those of a
    return tile;
  }
  const int64_t index = p.units_of_block > 1 ? t % p.tiles : part * blockDim.x + t;
  tile.unit = p.units_of_block > 1 ? static_cast<int>(t / p.tiles) : 0;
  tile.any = index < p.tiles && tile.unit < p.units_of_block &&
             blockIdx.x / p.parts * p.units_of_block + tile.unit < p.units;
  triangle_tile(index, p.side, tile.a, tile.b);
  tile.column_a = tile.a;
  tile.column_b = tile.b;
  return tile;
}

// The rows that a block holds in shared memory at a time.
struct MomentsShared {
  double *z, *root;  // (units, staged_rows, width), (units, staged_rows)
  int64_t* row;      // (units, staged_rows): -1 past the end
};

// Stages rows [i0, i0 + staged_rows) of each unit.
template <int R, class T>
GDCORE_DEVICE void stage_rows(const MomentsParams<T>& p, const MomentsShared& s, int64_t unit0,
                              const MomentsTile& tile, int i0) {
  constexpr int batch = 4;
  const int t = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  const int rows = p.units_of_block * staged_rows, size = rows * p.width;
  const int64_t columns = p.d + 1 + p.t;
  for (int r = t; r < rows; r += threads) {
    const int64_t index = unit0 + r / staged_rows, i = i0 + r % staged_rows;
    s.row[r] = -1;
    if (index >= p.units) continue;
    const MomentsUnit<T> u = moments_unit(p, index);
    if (i >= u.count) continue;
    const int64_t row = u.row_numbers ? u.row_numbers[i] : i;
    s.row[r] = row;
    if (u.weight) s.root[r] = square_root(static_cast<double>(u.weight[row * p.weight_rs]));
  }
  __syncthreads();
  const int64_t first_a = tile.column_a - tile.a;
  const int64_t first_b = tile.column_b - (tile.b - square_threads * R);
  for (int e = t; e < size; e += batch * threads) {
    double x[batch];
    GDCORE_UNROLL
    for (int k = 0; k < batch; ++k) {
      const int at = e + k * threads, r = at / p.width, c = at % p.width;
      x[k] = 0;
      if (at >= size || s.row[r] < 0) continue;
      const int64_t j = !p.squares               ? c
                        : c < square_threads * R ? first_a + c
                                                 : first_b + c - square_threads * R;
      if (j >= columns) continue;
      const MomentsUnit<T> u = moments_unit(p, unit0 + r / staged_rows);
      x[k] = moments_column(p, u, s.row[r], j);
      if (u.weight) x[k] = s.root[r] * x[k];
    }
    GDCORE_UNROLL
    for (int k = 0; k < batch; ++k)
      if (e + k * threads < size) s.z[e + k * threads] = x[k];
  }
}

template <class T, int R>
GDCORE_DEVICE void moments_segments(const MomentsParams<T>& p) {
  unsigned char* const at = shared_memory(moments_bytes(p.units_of_block, p.width));
  const int rows = p.units_of_block * staged_rows;
  MomentsShared s;
  s.z = reinterpret_cast<double*>(at);
  s.root = s.z + static_cast<int64_t>(rows) * p.width;
  s.row = reinterpret_cast<int64_t*>(s.root + rows);
  const int64_t unit0 = blockIdx.x / p.parts * p.units_of_block;
  const MomentsTile tile = moments_tile<R>(p);

  ProductSum<T> sum[R][R] = {};
  for (int i0 = 0; i0 < p.longest; i0 += staged_rows) {
    __syncthreads();  // the rows before these have been read
    stage_rows<R>(p, s, unit0, tile, i0);
    __syncthreads();
    if (!tile.any) continue;
    for (int i = 0; i < staged_rows; ++i) {
      const int r = tile.unit * staged_rows + i;
      if (s.row[r] < 0) break;
      const double* const z = s.z + static_cast<int64_t>(r) * p.width;
      double x[R], y[R];
      GDCORE_UNROLL
      for (int k = 0; k < R; ++k) {
        x[k] = z[tile.a + k * p.side];
        y[k] = z[tile.b + k * p.side];
      }
      GDCORE_UNROLL
      for (int k = 0; k < R; ++k) GDCORE_UNROLL
      for (int l = 0; l < R; ++l) sum[k][l].add(x[k], y[l]);
    }
  }
  if (!tile.any) return;
  const int64_t columns = p.d + 1 + p.t;
  const int64_t out = (unit0 + tile.unit) * moments_entries(p.d, p.t);
  GDCORE_UNROLL
  for (int k = 0; k < R; ++k) {
    GDCORE_UNROLL
    for (int l = 0; l < R; ++l) {
      const int64_t x = tile.column_a + k * p.side, y = tile.column_b + l * p.side;
      if (x >= columns || y >= columns) continue;
      const int64_t entry = moments_entry(p.d, p.t, x < y ? x : y, x < y ? y : x);
      if (entry < 0) continue;
      p.hi[out + entry] = sum[k][l].hi;
      if constexpr (sizeof(T) == 8) p.lo[out + entry] = sum[k][l].lo;
    }
  }
}

// A thread an entry of a piece.
GDCORE_DEVICE void fold_pairs(const FoldPairsParams& p) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index >= p.pieces * p.entries) return;
  const int64_t piece = index / p.entries, entry = index % p.entries;
  int64_t begin = piece == 0 ? 0 : p.first + (piece - 1) * fan_in, end = p.first + piece * fan_in;
  if (p.begins) {
    begin = p.begins[piece];
    end = p.begins[piece + 1];
  }
  if (end > p.count) end = p.count;
  double* const out = p.out + 2 * piece * p.entries + entry;
  const bool goes_on = p.continues && piece == 0;
  double hi = goes_on ? out[0] : 0.0, lo = goes_on ? out[p.entries] : 0.0;
  for (int64_t c = begin; c < end; ++c) {
    const double y = p.in_hi[c * p.entries + entry];
    const double y_lo = p.in_lo ? p.in_lo[c * p.entries + entry] : 0.0;
    const double sum = hi + y, z = sum - hi;
    lo = ((hi - (sum - z)) + (y - z)) + (lo + y_lo);
    hi = sum;
  }
  out[0] = hi;
  out[p.entries] = lo;
}

}  // namespace gdcore::cuda
