// c (m,n) = a (m,k) @ b (k,n) in tiles: each element is one chain of fma over k, cut into segments
// of 512 terms whose sums are added in order.
//
// A block computes BM x BN elements. The terms of a tile of k go through shared memory, where both
// operands lie term by term; the next tile is read into registers meanwhile. Rows, columns and
// terms that do not exist are never read: what is computed from the numbers left in their place is
// not stored, and no term beyond k is multiplied, since adding 0 * x is not always exact.
#pragma once

#include "contract.hpp"
#include "cuda/kernels/batch.hpp"

namespace gdcore::cuda {

// Numbers of the row of a tile in shared memory: 4 more than there are, so that the threads of a
// warp meet no bank twice.
template <int Span>
constexpr int pitch = Span + 4;

// Reads tiles of Span rows of a (columns of b) by BK terms, P numbers at once.
template <class T, int Span, int BK, int threads, int P>
class Loader {
  static constexpr int packs = Span * BK / P;
  static constexpr int each = packs < threads ? 1 : packs / threads;  // of a thread
  static_assert(packs < threads || packs % threads == 0);
  static_assert(BK % P == 0 && Span % P == 0 && threads % (BK / P) == 0);
  static_assert(threads % (Span / P) == 0, "a thread's packs are equally far apart");

  const T* from_;     // this thread's first pack
  int64_t to_next_;   // from a pack to the thread's next
  int64_t to_tile_;   // from a tile of terms to the next
  int at_, at_next_;  // in shared memory
  int term_, term_next_;
  bool along_k_, in_tile_;
  unsigned exists_ = 0;  // bit l: the rows of pack l do
  Pack<T, P> held_[each] = {};

 public:
  // rows: that exist, of those from `data` on.
  GDCORE_DEVICE Loader(const Operand<T>& x, const T* data, int64_t rows, int thread)
      : along_k_(x.along_k) {
    const int row = along_k_ ? thread / (BK / P) : thread % (Span / P) * P;
    const int row_next = along_k_ ? threads / (BK / P) : 0;
    term_ = along_k_ ? thread % (BK / P) * P : thread / (Span / P);
    term_next_ = along_k_ ? 0 : threads / (Span / P);
    from_ = data + row * x.stride + term_ * x.k_stride;
    to_next_ = row_next * x.stride + term_next_ * x.k_stride;
    to_tile_ = BK * x.k_stride;
    at_ = term_ * pitch<Span> + row;
    at_next_ = term_next_ * pitch<Span> + row_next;
    in_tile_ = row < Span && term_ < BK;
    GDCORE_UNROLL
    for (int l = 0; l < each; ++l)
      if (in_tile_ && row + l * row_next < rows) exists_ |= 1u << l;
  }

  // The next tile, of which `terms` exist; none where terms <= 0.
  GDCORE_DEVICE void load(int terms) {
    const T* at = from_;
    GDCORE_UNROLL
    for (int l = 0; l < each; ++l) {
      if ((exists_ >> l & 1) && term_ + l * term_next_ < terms)
        held_[l] = *reinterpret_cast<const Pack<T, P>*>(at);
      at += to_next_;
    }
    from_ += to_tile_;
  }

  GDCORE_DEVICE void store(T* tile) const {
    if (packs < threads && !in_tile_) return;
    T* at = tile + at_;
    if (P > 1 && along_k_) {
      GDCORE_UNROLL
      for (int l = 0; l < each; ++l, at += at_next_) {
        GDCORE_UNROLL
        for (int v = 0; v < P; ++v) at[v * pitch<Span>] = held_[l].v[v];
      }
    } else {
      GDCORE_UNROLL
      for (int l = 0; l < each; ++l, at += at_next_) *reinterpret_cast<Pack<T, P>*>(at) = held_[l];
    }
  }
};

// How the threads of a block share a tile: a warp is 32 / X by X threads, and a thread computes
// TM x TN elements in packs that are a warp's width apart.
template <class Number, int BM_, int BN_, int BK_, int TM, int TN, int X>
struct FmaTile {
  using T = Number;
  static constexpr int BM = BM_, BN = BN_, BK = BK_, R = TM, C = TN;
  static constexpr int threads = (BM / TM) * (BN / TN);
  static constexpr int wide = 16 / static_cast<int>(sizeof(T));
  static constexpr int row_pack = TM < wide ? TM : wide, column_pack = TN < wide ? TN : wide;
  static constexpr int Y = 32 / X, warps_n = BN / (X * TN);
  static_assert(BM % (Y * TM) == 0 && BN % (X * TN) == 0 && L<T> % BK == 0);

  int row0, column0;

  GDCORE_DEVICE explicit FmaTile(int thread)
      : row0(thread / 32 / warps_n * (Y * TM) + thread % 32 / X * row_pack),
        column0(thread / 32 % warps_n * (X * TN) + thread % X * column_pack) {}
  GDCORE_DEVICE int row(int i) const { return row0 + i / row_pack * (Y * row_pack) + i % row_pack; }
  GDCORE_DEVICE int column(int j) const {
    return column0 + j / column_pack * (X * column_pack) + j % column_pack;
  }

  GDCORE_DEVICE void add_term(T (&sums)[R][C], const T* a, const T* b) const {
    Pack<T, row_pack> x[TM / row_pack];
    Pack<T, column_pack> y[TN / column_pack];
    GDCORE_UNROLL
    for (int q = 0; q < TM / row_pack; ++q)
      x[q] = *reinterpret_cast<const Pack<T, row_pack>*>(a + row0 + q * (Y * row_pack));
    GDCORE_UNROLL
    for (int q = 0; q < TN / column_pack; ++q)
      y[q] = *reinterpret_cast<const Pack<T, column_pack>*>(b + column0 + q * (X * column_pack));
    GDCORE_UNROLL
    for (int i = 0; i < TM; ++i) {
      GDCORE_UNROLL
      for (int j = 0; j < TN; ++j)
        sums[i][j] =
            fma(x[i / row_pack].v[i % row_pack], y[j / column_pack].v[j % column_pack], sums[i][j]);
    }
  }
  GDCORE_DEVICE void add_tile(T (&sums)[R][C], const T* a, const T* b) const {
    GDCORE_UNROLL
    for (int term = 0; term < BK; ++term)
      add_term(sums, a + term * pitch<BM>, b + term * pitch<BN>);
  }
  GDCORE_DEVICE void add_terms(T (&sums)[R][C], const T* a, const T* b, int terms) const {
#pragma unroll 1
    for (int term = 0; term < terms; ++term)
      add_term(sums, a + term * pitch<BM>, b + term * pitch<BN>);
  }
};

// The elements and the terms of a block.
struct BlockTask {
  int64_t part, problem, i0, j0;
};

// Blocks that run at the same time share rows and columns: bands of 16 tile rows, column by column.
template <class T>
GDCORE_DEVICE BlockTask block_task(const MatmulParams<T>& p, int BM, int BN) {
  constexpr int64_t band = 16;
  const int64_t tiles = p.tiles_m * p.tiles_n, block = block_from(p.first_block);
  const int64_t rest = block / tiles, tile = block - rest * tiles;
  const int64_t top = tile / (band * p.tiles_n) * band, within = tile - top * p.tiles_n;
  const int64_t height = p.tiles_m - top < band ? p.tiles_m - top : band;
  return {rest / p.batch.problems, rest % p.batch.problems, (top + within % height) * BM,
          within / height * BN};
}

// Where a block's first element goes, and how many rows and columns exist.
template <class T>
struct Output {
  T* data;
  int rows, columns;
};
template <class T>
GDCORE_DEVICE Output<T> output_of(const MatmulParams<T>& p, const BlockTask& task, int64_t c_offset,
                                  int BM, int BN) {
  const int64_t rows = p.m - task.i0, columns = p.n - task.j0;
  T* const data = p.parts == 1
                      ? p.c.data + c_offset + task.i0 * p.c.rs + task.j0 * p.c.cs
                      : p.partials +
                            ((task.part * p.batch.problems + task.problem) * p.m + task.i0) * p.n +
                            task.j0;
  return {data, static_cast<int>(rows < BM ? rows : BM),
          static_cast<int>(columns < BN ? columns : BN)};
}

template <class Tile>
GDCORE_DEVICE void write(const MatmulParams<typename Tile::T>& p, const Tile& tile,
                         const typename Tile::T (&sums)[Tile::R][Tile::C],
                         const Output<typename Tile::T>& to) {
  using T = typename Tile::T;
  constexpr int P = Tile::column_pack;
  const int64_t rs = p.parts == 1 ? p.c.rs : p.n, cs = p.parts == 1 ? p.c.cs : 1;
  const bool in_packs = p.parts == 1 && p.c_in_packs;
  GDCORE_UNROLL
  for (int i = 0; i < Tile::R; ++i) {
    if (tile.row(i) >= to.rows) continue;
    T* const row = to.data + tile.row(i) * rs;
    GDCORE_UNROLL
    for (int j = 0; j < Tile::C; j += P) {
      if (in_packs && tile.column(j) + P <= to.columns) {
        Pack<T, P> pack;
        GDCORE_UNROLL
        for (int v = 0; v < P; ++v) pack.v[v] = sums[i][j + v];
        *reinterpret_cast<Pack<T, P>*>(row + tile.column(j)) = pack;
      } else {
        GDCORE_UNROLL
        for (int v = 0; v < P; ++v)
          if (tile.column(j + v) < to.columns) row[tile.column(j + v) * cs] = sums[i][j + v];
      }
    }
  }
}

template <class Tile>
struct MatmulShared {
  using T = typename Tile::T;
  static constexpr int a_size = Tile::BK * pitch<Tile::BM>, b_size = Tile::BK * pitch<Tile::BN>;
  static constexpr size_t buffers = sizeof(T) * 2 * (a_size + b_size);
  // Each thread's sums of the segments so far; used by sums of more than one.
  static constexpr size_t totals = sizeof(T) * Tile::BM * Tile::BN;
};

template <class Tile, int P>
GDCORE_DEVICE void matmul(const MatmulParams<typename Tile::T>& p) {
  using T = typename Tile::T;
  using Shared = MatmulShared<Tile>;
  constexpr int BK = Tile::BK, threads = Tile::threads;
  const int thread = static_cast<int>(threadIdx.x);
  const BlockTask task = block_task(p, Tile::BM, Tile::BN);
  const ProblemAt at = problem_at(p.batch, task.problem);
  const int64_t first = task.part * p.part;
  const int terms = static_cast<int>(p.k - first < p.part ? p.k - first : p.part);
  const bool segmented = p.k > L<T> && p.part > L<T>;
  T* const a_tiles =
      reinterpret_cast<T*>(shared_memory(Shared::buffers + (segmented ? Shared::totals : 0)));
  T* const b_tiles = a_tiles + 2 * Shared::a_size;
  T* const totals = b_tiles + 2 * Shared::b_size;

  Loader<T, Tile::BM, BK, threads, P> a(
      p.a, p.a.data + at.a + task.i0 * p.a.stride + first * p.a.k_stride, p.m - task.i0, thread);
  Loader<T, Tile::BN, BK, threads, P> b(
      p.b, p.b.data + at.b + task.j0 * p.b.stride + first * p.b.k_stride, p.n - task.j0, thread);
  const Output<T> output = output_of(p, task, at.c, Tile::BM, Tile::BN);
  const Tile tile(thread);

  T sums[Tile::R][Tile::C];
  const auto clear = [&] {
    GDCORE_UNROLL
    for (int i = 0; i < Tile::R; ++i) {
      GDCORE_UNROLL
      for (int j = 0; j < Tile::C; ++j) sums[i][j] = T(0);
    }
  };
  const auto end_segment = [&](bool is_first, bool is_last) {
    GDCORE_UNROLL
    for (int i = 0; i < Tile::R; ++i) {
      GDCORE_UNROLL
      for (int j = 0; j < Tile::C; ++j) {
        T& total = totals[(i * Tile::C + j) * threads + thread];
        if (!is_first) sums[i][j] = total + sums[i][j];
        if (!is_last) total = sums[i][j];
      }
    }
    if (!is_last) clear();
  };
  const auto load = [&](int left) {
    a.load(left);
    b.load(left);
  };
  const auto store = [&](int buffer) {
    a.store(a_tiles + buffer * Shared::a_size);
    b.store(b_tiles + buffer * Shared::b_size);
    __syncthreads();
  };

  clear();
  int left = terms, now = 0;
  load(left);
  store(now);
  for (bool is_first = true; true; is_first = false) {
    const int segment = left < L<T> ? left : static_cast<int>(L<T>);
    for (int tiles = segment / BK; tiles > 0; --tiles) {
      left -= BK;
      load(left);
      tile.add_tile(sums, a_tiles + now * Shared::a_size, b_tiles + now * Shared::b_size);
      now ^= 1;
      store(now);
    }
    if (segment % BK > 0) {
      tile.add_terms(sums, a_tiles + now * Shared::a_size, b_tiles + now * Shared::b_size, left);
      left = 0;
    }
    if (segmented) end_segment(is_first, left == 0);
    if (left == 0) break;
  }
  write(p, tile, sums, output);
}

}  // namespace gdcore::cuda
