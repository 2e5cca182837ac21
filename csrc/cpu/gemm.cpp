// The five loops of Goto and van de Geijn (2008), with KC = L so that a block of k is a segment of
// the contract. Operands are packed only where that pays; the tiles read any rows and columns of a.
#include "cpu/gemm.hpp"

#include "cpu/dispatch.hpp"
#include "cpu/scratch.hpp"

namespace gdcore::cpu {
namespace {

constexpr int64_t MC = 512;   // rows of a packed block of a
constexpr int64_t NC = 2048;  // columns of a packed block of b
// Packing pays from this many rows on for b, and columns for a.
constexpr int64_t rows_to_pack_b = 100, cols_to_pack_a = 200;
constexpr int64_t widest_NR = 128;
constexpr int64_t lines_for_columns = 16;  // rows and terms, for lanes across the rows to pay
// With at most this many rows a large b is read in place.
constexpr int64_t rows_for_b_in_place = 64, large_b_bytes = 1 << 18;
constexpr int64_t column_block = 2048, b_row_block = 32;
constexpr int64_t small_bytes = 32768;  // of problems that are multiplied tile by tile together

// Rows [0, m) in tiles of nearly equal height: the first `taller` of them have height + 1 rows.
struct RowTiles {
  int64_t count, height, taller;
  RowTiles(int64_t m, int MR) : count((m + MR - 1) / MR), height(m / count), taller(m % count) {}

  // body(first row, number of tiles, their height)
  template <class Body>
  void each_height(Body&& body) const {
    if (taller > 0) body(int64_t{0}, taller, static_cast<int>(height + 1));
    body(taller * (height + 1), count - taller, static_cast<int>(height));
  }
};

// A block of an operand as the tiles read it. If packed, the rows of a panel of b, or the columns
// of one of a, are contiguous, and one panel follows another.
template <class T>
struct Block {
  const T* data;
  int64_t rs, cs;
  bool packed;
};

// c (m,n) from a (m,k) @ b (k,n), k <= L: panels of b outside, tiles of rows inside.
template <class T>
void multiply_block(int64_t m, int64_t n, int64_t k, TileShape shape, Block<T> a, Block<T> b,
                    Matrix<T> c, Into into) {
  TileRun<T> run{};
  run.k = k;
  run.b_rs = b.rs;
  run.c_rs = c.rs;
  run.into = into;
  for (int64_t j = 0; j < n; j += shape.cols) {
    run.cols = static_cast<int>(std::min<int64_t>(shape.cols, n - j));
    run.b = b.data + (b.packed ? j * k : j);
    RowTiles(m, shape.rows).each_height([&](int64_t i, int64_t count, int height) {
      run.count = count;
      run.rows = height;
      run.a = a.data + i * (a.packed ? k : a.rs);
      run.a_rs = a.packed ? 1 : a.rs;
      run.a_cs = a.packed ? height : a.cs;
      run.a_step = height * (a.packed ? k : a.rs);
      run.c = c.data + i * c.rs + j;
      run.c_step = height * c.rs;
      isa<T>().tiles(run);
    });
  }
}

// The same where n is too small to fill a tile's lanes.
template <class T>
void multiply_columns(int64_t m, int64_t n, int64_t k, TileShape, Block<T> a, Block<T> b,
                      Matrix<T> c, Into into) {
  isa<T>().columns({1, k, a.data, a.rs, a.cs, 0, b.data, b.rs, 0, c.data, c.rs, 0, m,
                    static_cast<int>(n), into});
}

// A block (m,k) of a, the columns of each tile's rows side by side.
template <class T>
Block<T> pack_a(Block<T> a, int64_t m, int64_t k, int MR, T* out) {
  RowTiles(m, MR).each_height([&](int64_t i, int64_t count, int height) {
    isa<T>().pack(
        {count, k, height, height, a.data + i * a.rs, a.cs, a.rs, height * a.rs, out + i * k});
  });
  return {out, 1, 0, true};
}

// A block (k,n) of b, the rows of each panel one after the other.
template <class T>
Block<T> pack_b(Block<T> b, int64_t k, int64_t n, int NR, T* out) {
  const int64_t whole = n / NR * NR;
  isa<T>().pack({n / NR, k, NR, NR, b.data, b.rs, b.cs, NR * b.cs, out});
  if (whole < n)
    isa<T>().pack({1, k, static_cast<int>(n - whole), NR, b.data + whole * b.cs, b.rs, b.cs, 0,
                   out + whole * k});
  return {out, NR, 1, true};
}

// Few rows: b is read in place, b_row_block of its rows at a time. Meanwhile the sums stay in c, or
// from the second segment on in `partial` (m, column_block).
template <class T>
void multiply_few_rows(int64_t m, int64_t n, int64_t k, TileShape shape, Matrix<const T> a,
                       Matrix<const T> b, Matrix<T> c, T* partial) {
  for (int64_t j = 0; j < n; j += column_block) {
    const int64_t cols = std::min(column_block, n - j);
    for (int64_t pc = 0; pc < k; pc += L<T>) {
      const int64_t kc = std::min(L<T>, k - pc);
      const Matrix<T> sums =
          pc == 0 ? Matrix<T>{c.data + j, c.rs, 1} : Matrix<T>{partial, column_block, 1};
      for (int64_t p = 0; p < kc; p += b_row_block)
        multiply_block<T>(m, cols, std::min(b_row_block, kc - p), shape,
                          {a.data + (pc + p) * a.cs, a.rs, a.cs, false},
                          {b.data + (pc + p) * b.rs + j, b.rs, 1, false}, sums,
                          p == 0 ? Into::write : Into::resume);
      for (int64_t i = 0; pc > 0 && i < m; ++i)
        for (int64_t u = 0; u < cols; ++u)
          c.data[i * c.rs + j + u] += partial[i * column_block + u];
    }
  }
}

template <class T>
void zero(int64_t m, int64_t n, Matrix<T> c) {
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) c.data[i * c.rs + j * c.cs] = T(0);
}

// Products whose operands stay in L1 together.
template <class T>
int64_t block_of(const ProductRun<T>& run) {
  return std::clamp<int64_t>(small_bytes / std::max<int64_t>(run.problem.bytes(), 1), 1, run.count);
}

// The same products with each b packed, its rows contiguous.
template <class T>
ProductRun<T> pack_each_b(ProductRun<T> run, T* out) {
  const Product<T>& p = run.problem;
  const auto n = static_cast<int>(p.n);
  isa<T>().pack({run.count, p.k, n, n, p.b.data, p.b.rs, p.b.cs, run.b_step, out});
  run.problem.b = {out, p.n, 1};
  run.b_step = p.k * p.n;
  return run;
}

// Small products, k > 0: the first tile of all of them, then the second of all, and so on.
template <class T>
void multiply_small(const ProductRun<T>& run, TileShape shape, RowTiles rows) {
  const Product<T>& p = run.problem;
  TileRun<T> tile{};
  tile.count = run.count;
  tile.a_rs = p.a.rs, tile.a_cs = p.a.cs, tile.a_step = run.a_step;
  tile.b_rs = p.b.rs, tile.b_step = run.b_step;
  tile.c_rs = p.c.rs, tile.c_step = run.c_step;
  for (int64_t pc = 0; pc < p.k; pc += L<T>) {
    tile.k = std::min(L<T>, p.k - pc);
    tile.into = pc > 0 ? Into::add : Into::write;
    for (int64_t j = 0; j < p.n; j += shape.cols) {
      tile.cols = static_cast<int>(std::min<int64_t>(shape.cols, p.n - j));
      tile.b = p.b.data + pc * p.b.rs + j;
      rows.each_height([&](int64_t i, int64_t count, int height) {
        tile.rows = height;
        for (; count > 0; --count, i += height) {
          tile.a = p.a.data + i * p.a.rs + pc * p.a.cs;
          tile.c = p.c.data + i * p.c.rs + j;
          isa<T>().tiles(tile);
        }
      });
    }
  }
}

// Squares without gaps, where the instruction set has a kernel of their size: how many it did.
template <class T>
int64_t multiply_squares(const ProductRun<T>& run) {
  const Product<T>& p = run.problem;
  const int64_t n = p.n, step = n * n;
  const bool dense = p.a.rs == n && p.a.cs == 1 && p.b.rs == n && p.b.cs == 1 && p.c.rs == n &&
                     run.a_step == step && run.b_step == step && run.c_step == step;
  if (p.m != n || p.k != n || !dense) return 0;
  return isa<T>().squares(n, run.count, p.a.data, p.b.data, p.c.data);
}

// How one product is cut into blocks, and which operands are packed.
template <class T>
struct Blocks {
  TileShape shape;
  bool by_columns, packs_a, packs_b, few_rows;
  int64_t rows, cols;

  Blocks(int64_t m, int64_t n, int64_t k, bool a_in_lines, bool b_in_rows)
      : shape(isa<T>().tile_shape(m, n)),
        by_columns(n <= isa<T>().few_columns && a_in_lines && m >= lines_for_columns &&
                   k >= lines_for_columns),
        packs_a(n > cols_to_pack_a),
        packs_b(!b_in_rows || (m > rows_to_pack_b && !by_columns)),
        few_rows(m <= rows_for_b_in_place && n > shape.cols && !packs_b &&
                 k * n * static_cast<int64_t>(sizeof(T)) > large_b_bytes),
        rows(packs_a ? ceil_div(m, ceil_div(m, MC)) : m),
        cols(packs_b ? NC : n) {}
};

// The part of the packing that holds a.
template <class T>
int64_t packed_a_size(int64_t m, int64_t k) {
  return lines<T>(std::min(m, MC) * std::min(k, L<T>));
}

// k <= chain_terms.
template <class T>
void gemm_chain(int64_t m, int64_t n, int64_t k, Matrix<const T> a, Matrix<const T> b, Matrix<T> c,
                T* packing) {
  const Blocks<T> blocks(m, n, k, a.rs == 1 || a.cs == 1, b.cs == 1 || n == 1);
  const auto multiply = blocks.by_columns ? multiply_columns<T> : multiply_block<T>;
  const TileShape shape = blocks.shape;
  if (blocks.few_rows) return multiply_few_rows(m, n, k, shape, a, b, c, packing);
  T* const packed_b = packing + packed_a_size<T>(m, k);
  for (int64_t jc = 0; jc < n; jc += blocks.cols) {
    const int64_t nc = std::min(blocks.cols, n - jc);
    for (int64_t pc = 0; pc < k; pc += L<T>) {
      const int64_t kc = std::min(L<T>, k - pc);
      Block<T> right{b.data + pc * b.rs + jc * b.cs, b.rs, b.cs, false};
      if (blocks.packs_b) right = pack_b(right, kc, nc, shape.cols, packed_b);
      for (int64_t ic = 0; ic < m; ic += blocks.rows) {
        const int64_t mc = std::min(blocks.rows, m - ic);
        Block<T> left{a.data + ic * a.rs + pc * a.cs, a.rs, a.cs, false};
        if (blocks.packs_a) left = pack_a(left, mc, kc, shape.rows, packing);
        multiply(mc, nc, kc, shape, left, right, {c.data + ic * c.rs + jc, c.rs, 1},
                 pc > 0 ? Into::add : Into::write);
      }
    }
  }
}

template <class T>
int64_t spare_size(int64_t m, int64_t n) {
  return lines<T>(std::min(m, MC) * std::min(n, NC));
}

// k > chain_terms, m <= MC, n <= NC: the sums of parts, each of which may have parts, added in c.
template <class T>
void gemm_parts(int64_t m, int64_t n, int64_t k, Matrix<const T> a, Matrix<const T> b, Matrix<T> c,
                T* packing, T* spare) {
  if (k <= chain_terms<T>) return gemm_chain(m, n, k, a, b, c, packing);
  const int64_t part = part_of<T>(k);
  for (int64_t p = 0; p < k; p += part) {
    const Matrix<T> out = p == 0 ? c : Matrix<T>{spare, n, 1};
    gemm_parts<T>(m, n, std::min(part, k - p), {a.data + p * a.cs, a.rs, a.cs},
                  {b.data + p * b.rs, b.rs, b.cs}, out, packing, spare + spare_size<T>(m, n));
    for (int64_t i = 0; p > 0 && i < m; ++i)
      for (int64_t j = 0; j < n; ++j) c.data[i * c.rs + j] += spare[i * n + j];
  }
}

}  // namespace

template <class T>
int64_t packing_size(int64_t m, int64_t n, int64_t k) {
  const int64_t packed_b = (std::min(n, NC) + widest_NR) * std::min(k, L<T>);
  const int64_t partial = k > L<T> ? std::min(m, rows_for_b_in_place) * column_block : 0;
  const int64_t small = small_bytes / static_cast<int64_t>(sizeof(T));
  return packed_a_size<T>(m, k) + lines<T>(std::max({packed_b, partial, small})) +
         levels_of_parts<T>(k) * spare_size<T>(m, n);
}

template <class T>
void gemm(int64_t m, int64_t n, int64_t k, Matrix<const T> a, Matrix<const T> b, Matrix<T> c,
          T* packing) {
  if (m == 0 || n == 0) return;
  if (k == 0) return zero(m, n, c);
  if (k <= chain_terms<T>) return gemm_chain(m, n, k, a, b, c, packing);
  T* const spare = packing + packing_size<T>(m, n, k) - levels_of_parts<T>(k) * spare_size<T>(m, n);
  for (int64_t i = 0; i < m; i += MC)
    for (int64_t j = 0; j < n; j += NC)
      gemm_parts<T>(std::min(MC, m - i), std::min(NC, n - j), k, {a.data + i * a.rs, a.rs, a.cs},
                    {b.data + j * b.cs, b.rs, b.cs}, {c.data + i * c.rs + j, c.rs, 1}, packing,
                    spare);
}

template <class T>
void multiply(const ProductRun<T>& given, T* packing) {
  const int64_t done = multiply_squares(given);
  if (done == given.count) return;
  const ProductRun<T> run = given.part(done, given.count - done);
  const Product<T>& p = run.problem;
  const int64_t block = block_of(run);
  if (p.k == 0 || block == 1) {
    for (int64_t i = 0; i < run.count; ++i) {
      const Product<T> one = run[i];
      gemm<T>(p.m, p.n, p.k, one.a, one.b, one.c, packing);
    }
    return;
  }
  const TileShape shape = isa<T>().tile_shape(p.m, p.n);
  const RowTiles rows(p.m, shape.rows);
  const bool packs_b = p.b.cs != 1 && p.n > 1;
  for (int64_t i = 0; i < run.count; i += block) {
    const ProductRun<T> some = run.part(i, std::min(block, run.count - i));
    multiply_small(packs_b ? pack_each_b(some, packing) : some, shape, rows);
  }
}

#define GDCORE_INSTANTIATE(T)                                                                   \
  template int64_t packing_size<T>(int64_t, int64_t, int64_t);                                  \
  template void gemm<T>(int64_t, int64_t, int64_t, Matrix<const T>, Matrix<const T>, Matrix<T>, \
                        T*);                                                                    \
  template void multiply<T>(const ProductRun<T>&, T*);
GDCORE_INSTANTIATE(float)
GDCORE_INSTANTIATE(double)

}  // namespace gdcore::cpu
