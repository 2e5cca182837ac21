// Many products of m, n, k <= 32: a block copies the operands of a group of problems to shared
// memory, where a thread computes 4 x 4 elements of one problem, each a single chain over k.
#pragma once

#include "contract.hpp"
#include "cuda/kernels/batch.hpp"
#include "cuda/kernels/lanes.hpp"

namespace gdcore::cuda {

// x / d for reciprocal = (2^32 - 1) / d, while (x + 1) * d <= 2^32.
GDCORE_DEVICE int times_reciprocal(int x, uint32_t reciprocal) {
  return static_cast<int>(static_cast<uint64_t>(static_cast<uint32_t>(x) + 1) * reciprocal >> 32);
}

// Matrices of a group in shared memory. Rows and problems are an odd number of elements apart, so
// that the threads of a warp meet few banks twice.
struct Stage {
  int rows, columns, pitch, problem_pitch;
  uint32_t by_size, by_row;

  GDCORE_DEVICE Stage(int m, int n, uint32_t size_reciprocal, uint32_t row_reciprocal)
      : rows(m),
        columns(n),
        pitch(n | 1),
        problem_pitch((m * (n | 1)) | 1),
        by_size(size_reciprocal),
        by_row(row_reciprocal) {}

  // Element e of the group, counted problem by problem and by rows.
  struct At {
    int problem, row, column;
  };
  GDCORE_DEVICE At at(int e) const {
    const int problem = times_reciprocal(e, by_size), within = e - problem * rows * columns;
    const int row = times_reciprocal(within, by_row);
    return {problem, row, within - row * columns};
  }
  GDCORE_DEVICE int index(const At& x) const {
    return x.problem * problem_pitch + x.row * pitch + x.column;
  }
};

// f(element in shared memory, element in memory) for all of `count` problems, whose first elements
// are offsets[problem * offset_stride] behind `data`. Dense ones are moved in packs.
template <class T, class Data, class Move>
GDCORE_DEVICE void move_stage(const Stage& stage, int count, T* shared, Data* data, int64_t rs,
                              int64_t cs, const int64_t* offsets, bool dense, const Move& move) {
  constexpr int P = 16 / static_cast<int>(sizeof(T));
  const int size = count * stage.rows * stage.columns, thread = static_cast<int>(threadIdx.x),
            threads = static_cast<int>(blockDim.x);
  int done = 0;
  if (dense && is_aligned(data + offsets[0])) {
    done = size / P * P;
    for (int e = thread * P; e < done; e += threads * P) {
      T* at[P];
      GDCORE_UNROLL
      for (int v = 0; v < P; ++v) at[v] = shared + stage.index(stage.at(e + v));
      move.pack(at, data + offsets[0] + e);
    }
  }
  for (int e = done + thread; e < size; e += threads) {
    const Stage::At x = stage.at(e);
    move.one(shared[stage.index(x)], data[offsets[x.problem * 3] + x.row * rs + x.column * cs]);
  }
}

struct ToShared {
  template <class T, int P>
  GDCORE_DEVICE void pack(T* (&at)[P], const T* from) const {
    const Pack<T, P> x = *reinterpret_cast<const Pack<T, P>*>(from);
    GDCORE_UNROLL
    for (int v = 0; v < P; ++v) *at[v] = x.v[v];
  }
  template <class T>
  GDCORE_DEVICE void one(T& shared, const T& x) const {
    shared = x;
  }
};
struct FromShared {
  template <class T, int P>
  GDCORE_DEVICE void pack(T* (&at)[P], T* to) const {
    Pack<T, P> x;
    GDCORE_UNROLL
    for (int v = 0; v < P; ++v) x.v[v] = *at[v];
    *reinterpret_cast<Pack<T, P>*>(to) = x;
  }
  template <class T>
  GDCORE_DEVICE void one(T& shared, T& x) const {
    x = shared;
  }
};

template <class T>
GDCORE_DEVICE void matmul_small(const SmallMatmulParams<T>& p) {
  constexpr int W = 4;  // a thread computes W x W elements
  const Stage a(p.m, p.k, p.by_a, p.by_a_row), b(p.k, p.n, p.by_b, p.by_b_row),
      c(p.m, p.n, p.by_c, p.by_c_row);
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  const int64_t first = block_from(p.first_block) * p.group;
  const int64_t left = p.batch.problems - first;
  const int count = static_cast<int>(left < p.group ? left : p.group);
  const int b_count = p.one_b ? 1 : count;

  const int b_room = p.one_b ? 1 : p.group;
  int64_t* const offsets = reinterpret_cast<int64_t*>(
      shared_memory(sizeof(int64_t) * 3 * static_cast<size_t>(p.group) +
                    sizeof(T) * static_cast<size_t>(p.group * (a.problem_pitch + c.problem_pitch) +
                                                    b_room * b.problem_pitch)));
  T* const a_at = reinterpret_cast<T*>(offsets + 3 * p.group);
  T* const b_at = a_at + p.group * a.problem_pitch;
  T* const c_at = b_at + b_room * b.problem_pitch;

  for (int i = thread; i < count; i += threads) {
    const ProblemAt at = problem_at(p.batch, first + i);
    offsets[3 * i] = at.a;
    offsets[3 * i + 1] = at.b;
    offsets[3 * i + 2] = at.c;
  }
  __syncthreads();
  move_stage(a, count, a_at, p.a.data, p.a.stride, p.a.k_stride, offsets, p.a_dense, ToShared{});
  move_stage(b, b_count, b_at, p.b.data, p.b.k_stride, p.b.stride, offsets + 1, p.b_dense,
             ToShared{});
  __syncthreads();

  const int tiles_m = (p.m + W - 1) / W, tiles_n = (p.n + W - 1) / W;
  for (int task = thread; task < count * tiles_m * tiles_n; task += threads) {
    const int problem = times_reciprocal(task, p.by_tiles),
              tile = task - problem * tiles_m * tiles_n;
    const int tile_i = times_reciprocal(tile, p.by_tiles_n);
    const int i0 = tile_i * W, j0 = (tile - tile_i * tiles_n) * W;
    const T *rows[W], *columns[W];  // past the end: the last one, not stored
    GDCORE_UNROLL
    for (int w = 0; w < W; ++w) {
      const int i = i0 + w < p.m ? i0 + w : p.m - 1, j = j0 + w < p.n ? j0 + w : p.n - 1;
      rows[w] = a_at + problem * a.problem_pitch + i * a.pitch;
      columns[w] = b_at + (p.one_b ? 0 : problem) * b.problem_pitch + j;
    }
    T sums[W][W];
    GDCORE_UNROLL
    for (int i = 0; i < W; ++i) {
      GDCORE_UNROLL
      for (int j = 0; j < W; ++j) sums[i][j] = T(0);
    }
    for (int term = 0; term < p.k; ++term) {
      T x[W], y[W];
      GDCORE_UNROLL
      for (int w = 0; w < W; ++w) {
        x[w] = rows[w][term];
        y[w] = columns[w][term * b.pitch];
      }
      GDCORE_UNROLL
      for (int i = 0; i < W; ++i) {
        GDCORE_UNROLL
        for (int j = 0; j < W; ++j) sums[i][j] = fma(x[i], y[j], sums[i][j]);
      }
    }
    T* const to = c_at + problem * c.problem_pitch;
    GDCORE_UNROLL
    for (int i = 0; i < W; ++i) {
      GDCORE_UNROLL
      for (int j = 0; j < W; ++j)
        if (i0 + i < p.m && j0 + j < p.n) to[(i0 + i) * c.pitch + j0 + j] = sums[i][j];
    }
  }
  __syncthreads();
  move_stage(c, count, c_at, p.c.data, p.c.rs, p.c.cs, offsets + 2, p.c_dense, FromShared{});
}

}  // namespace gdcore::cuda
