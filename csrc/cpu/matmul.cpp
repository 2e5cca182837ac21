#include <algorithm>

#include "cpu/dispatch.hpp"
#include "cpu/operations.hpp"
#include "cpu/parallel.hpp"
#include "cpu/scratch.hpp"

// The five loops of Goto and van de Geijn (2008), with KC = L so that a block of k is a chunk of
// the contract. Operands are packed only where that pays; the tiles read any rows and columns of a.
namespace gdcore::cpu {
namespace {

constexpr int64_t MC = 512;   // rows of a packed block of a
constexpr int64_t NC = 2048;  // columns of a packed block of b
// Where packing an operand pays: the more rows read b, and columns a.
constexpr int64_t rows_to_pack_b = 100, cols_to_pack_a = 200;
constexpr int64_t widest_NR = 128;
constexpr int64_t lines_for_columns = 16;  // rows and terms, for lanes across the rows to pay
// So many rows and fewer read a large b as it lies in memory.
constexpr int64_t rows_for_b_in_place = 64, large_b_bytes = 1 << 18;
constexpr int64_t columns_at_once = 2048, rows_of_b_at_once = 32;
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

// A block of an operand as the tiles read it. Packed, a panel's rows (of b) or columns (of a) lie
// side by side, and the panels one after the other.
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

// The same for so few columns that a tile's lanes would stay empty.
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

// A few rows, b in place: b is read row by row as it lies, a few of them at a time, while the
// chains wait in c, or from the second chunk on in `partial` (m, columns_at_once).
template <class T>
void multiply_few_rows(int64_t m, int64_t n, int64_t k, TileShape shape, Matrix<const T> a,
                       Matrix<const T> b, Matrix<T> c, T* partial) {
  for (int64_t j = 0; j < n; j += columns_at_once) {
    const int64_t cols = std::min(columns_at_once, n - j);
    for (int64_t pc = 0; pc < k; pc += L<T>) {
      const int64_t kc = std::min(L<T>, k - pc);
      const Matrix<T> sums =
          pc == 0 ? Matrix<T>{c.data + j, c.rs, 1} : Matrix<T>{partial, columns_at_once, 1};
      for (int64_t p = 0; p < kc; p += rows_of_b_at_once)
        multiply_block<T>(m, cols, std::min(rows_of_b_at_once, kc - p), shape,
                          {a.data + (pc + p) * a.cs, a.rs, a.cs, false},
                          {b.data + (pc + p) * b.rs + j, b.rs, 1, false}, sums,
                          p == 0 ? Into::write : Into::resume);
      for (int64_t i = 0; pc > 0 && i < m; ++i)
        for (int64_t u = 0; u < cols; ++u)
          c.data[i * c.rs + j + u] += partial[i * columns_at_once + u];
    }
  }
}

template <class T>
void zero(int64_t m, int64_t n, Matrix<T> c) {
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) c.data[i * c.rs + j * c.cs] = T(0);
}

template <class T>
struct Problem {
  int64_t m, n, k;
  Matrix<const T> a, b;
  Matrix<T> c;

  int64_t bytes() const { return (m * k + k * n + m * n) * static_cast<int64_t>(sizeof(T)); }

  // One part of `parts`, along the longer side of c.
  Problem part(int64_t index, int64_t parts) const {
    Problem p = *this;
    if (m >= n) {
      const int64_t begin = m * index / parts;
      p.m = m * (index + 1) / parts - begin;
      p.a.data += begin * a.rs;
      p.c.data += begin * c.rs;
    } else {
      const int64_t begin = n * index / parts;
      p.n = n * (index + 1) / parts - begin;
      p.b.data += begin * b.cs;
      p.c.data += begin * c.cs;
    }
    return p;
  }
};

// `count` problems, a step apart.
template <class T>
struct Run {
  int64_t count;
  Problem<T> problem;
  int64_t a_step, b_step, c_step;

  Problem<T> operator[](int64_t i) const {
    Problem<T> p = problem;
    p.a.data += i * a_step;
    p.b.data += i * b_step;
    p.c.data += i * c_step;
    return p;
  }
  Run part(int64_t first, int64_t size) const {
    return {size, (*this)[first], a_step, b_step, c_step};
  }
  // Problems whose operands stay in L1 together.
  int64_t at_once() const {
    return std::clamp<int64_t>(small_bytes / std::max<int64_t>(problem.bytes(), 1), 1, count);
  }
};

// The same problems, each b packed, its rows side by side.
template <class T>
Run<T> pack_each_b(Run<T> run, T* out) {
  const Problem<T>& p = run.problem;
  const auto n = static_cast<int>(p.n);
  isa<T>().pack({run.count, p.k, n, n, p.b.data, p.b.rs, p.b.cs, run.b_step, out});
  run.problem.b = {out, p.n, 1};
  run.b_step = p.k * p.n;
  return run;
}

// Small problems, k > 0: each tile of the first, then the same tile of the others.
template <class T>
void multiply_small(const Run<T>& run, TileShape shape, RowTiles rows) {
  const Problem<T>& p = run.problem;
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

template <class T>
void multiply(const Run<T>& run, T* packing) {
  const Problem<T>& p = run.problem;
  const int64_t at_once = run.at_once();
  if (p.k == 0 || at_once == 1) {
    for (int64_t i = 0; i < run.count; ++i) {
      const Problem<T> one = run[i];
      gemm<T>(p.m, p.n, p.k, one.a, one.b, one.c, packing);
    }
    return;
  }
  const TileShape shape = isa<T>().tile_shape(p.m, p.n);
  const RowTiles rows(p.m, shape.rows);
  const bool packs_b = p.b.cs != 1 && p.n > 1;
  for (int64_t i = 0; i < run.count; i += at_once) {
    const Run<T> some = run.part(i, std::min(at_once, run.count - i));
    multiply_small(packs_b ? pack_each_b(some, packing) : some, shape, rows);
  }
}

// Where c is stored by columns, c^T = b^T a^T: an element's chain is the same.
template <class T>
MatmulArgs<T> transposed(const MatmulArgs<T>& x) {
  return {x.n,
          x.m,
          x.k,
          {x.b.data, x.b.cs, x.b.rs},
          {x.a.data, x.a.cs, x.a.rs},
          {x.c.data, x.c.cs, x.c.rs},
          x.batch,
          x.b_batch,
          x.a_batch,
          x.c_batch};
}

// The batch with as few dimensions as its strides allow, the last of them the longest run.
template <class T>
struct Batch {
  int64_t problems = 1;
  Problem<T> first;
  Dims shape, a, b, c;

  explicit Batch(const MatmulArgs<T>& args)
      : first{args.m, args.n, args.k, args.a, args.b, args.c} {
    for (size_t dim = 0; dim < args.batch.size(); ++dim)
      append(args.batch[dim], args.a_batch[dim], args.b_batch[dim], args.c_batch[dim]);
    if (shape.empty()) append_new(1, 0, 0, 0);
    if (args.m == 1) first.a.rs = a.back(), first.c.rs = c.back();
    if (shape.size() == 1 && b[0] == 0 && a[0] == args.m * first.a.rs &&
        c[0] == args.m * first.c.rs) {  // one b for all: their rows are those of one problem
      first.m *= problems;
      problems = 1;
    }
  }

  // The problems from `begin` on that lie a step apart, at most up to `end`.
  Run<T> run(int64_t begin, int64_t end) const {
    Run<T> r{std::min(end - begin, shape.back() - begin % shape.back()), first, a.back(), b.back(),
             c.back()};
    r.problem.a.data += offset_of(begin, shape, a);
    r.problem.b.data += offset_of(begin, shape, b);
    r.problem.c.data += offset_of(begin, shape, c);
    return r;
  }

 private:
  void append(int64_t size, int64_t a_step, int64_t b_step, int64_t c_step) {
    problems *= size;
    if (size == 1) return;
    if (shape.empty() || a.back() != size * a_step || b.back() != size * b_step ||
        c.back() != size * c_step)
      return append_new(size, a_step, b_step, c_step);
    shape.back() *= size;
    a.back() = a_step;
    b.back() = b_step;
    c.back() = c_step;
  }
  void append_new(int64_t size, int64_t a_step, int64_t b_step, int64_t c_step) {
    shape.push_back(size);
    a.push_back(a_step);
    b.push_back(b_step);
    c.push_back(c_step);
  }
};

// In the units of threads_for: a tile does four fma in the time of one elsewhere, and a problem
// takes as long as 256 beside its own.
template <class T>
int64_t work_of(const Batch<T>& batch) {
  const Problem<T>& p = batch.first;
  const double fma = static_cast<double>(p.m) * static_cast<double>(p.n) * static_cast<double>(p.k);
  const double work = static_cast<double>(batch.problems) / 4 * (fma + 256);
  return static_cast<int64_t>(std::min(work, 0x1p62));
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
        rows(packs_a ? chunks_of(m, chunks_of(m, MC)) : m),
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

thread_local Scratch scratch;

}  // namespace

template <class T>
int64_t packing_size(int64_t m, int64_t n, int64_t k) {
  const int64_t packed_b = (std::min(n, NC) + widest_NR) * std::min(k, L<T>);
  const int64_t partial = k > L<T> ? std::min(m, rows_for_b_in_place) * columns_at_once : 0;
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
void matmul(const MatmulArgs<T>& args) {
  if (args.n == 1) return matvec(args);
  const Batch<T> batch(args.c.cs != 1 && args.c.rs == 1 ? transposed(args) : args);
  const int64_t problems = batch.problems;
  const Problem<T>& first = batch.first;
  if (problems == 0 || first.m == 0 || first.n == 0) return;

  // Many problems: whole ones to each thread. Few: each is cut along its longer side.
  const int threads = threads_for(std::max({problems, first.m, first.n}), work_of(batch));
  const int64_t parts = problems >= 4 * threads || problems % threads == 0 ? 1 : threads;
  const int64_t per_thread = apart<T>(packing_size<T>(first.m, first.n, first.k));
  T* packing = scratch.reserve_as<T>(per_thread * threads);
  parallel_for(problems * parts, threads, [&](int64_t begin, int64_t end, int thread) {
    T* const own = packing + thread * per_thread;
    while (begin < end) {
      Run<T> run = batch.run(begin / parts, parts > 1 ? begin / parts + 1 : end);
      if (parts > 1) run.problem = run.problem.part(begin % parts, parts);
      multiply(run, own);
      begin += run.count;
    }
  });
  scratch.trim();
}

#define GDCORE_INSTANTIATE(T)                                                                   \
  template int64_t packing_size<T>(int64_t, int64_t, int64_t);                                  \
  template void gemm<T>(int64_t, int64_t, int64_t, Matrix<const T>, Matrix<const T>, Matrix<T>, \
                        T*);                                                                    \
  template void matmul<T>(const MatmulArgs<T>&);
GDCORE_INSTANTIATE(float)
GDCORE_INSTANTIATE(double)

}  // namespace gdcore::cpu
