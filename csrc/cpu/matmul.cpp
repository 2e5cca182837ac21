// Which route a product takes, the first that fits:
//
//   n = 1                              matvec.cpp: a dot product a row
//   c stored by columns                the transposed product, by one of the routes below
//   few rows and columns, long k       long_products.cpp: a lane a segment
//   many squares of 2 or 4, no gaps    gemm.cpp: vectors of whole problems (multiply_squares)
//   several small products             gemm.cpp: the same tile of each in turn (multiply_small)
//   k > chain_terms                    gemm.cpp: the sums of parts of k (gemm_parts)
//   few rows, a large b stored by rows gemm.cpp: b in place, a few of its rows at a time
//   few columns                        gemm.cpp: a lane a row (multiply_columns)
//   any other                          gemm.cpp: blocks, each operand packed where that pays
//
// The thresholds stand in gemm.cpp, at the top and in Blocks. No route changes a bit.
#include <algorithm>

#include "cpu/gemm.hpp"
#include "cpu/long_products.hpp"
#include "cpu/operations.hpp"
#include "cpu/parallel.hpp"
#include "cpu/scratch.hpp"
#include "cpu/threads.hpp"

namespace gdcore::cpu {
namespace {

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

// The batch with as few dimensions as its strides allow; the last is the longest run.
template <class T>
struct Batch {
  int64_t problems = 1;
  Product<T> first;
  Dims shape, a, b, c;

  explicit Batch(const MatmulArgs<T>& args)
      : first{args.m, args.n, args.k, args.a, args.b, args.c} {
    for (size_t dim = 0; dim < args.batch.size(); ++dim)
      append(args.batch[dim], args.a_batch[dim], args.b_batch[dim], args.c_batch[dim]);
    if (shape.empty()) append_new(1, 0, 0, 0);
    if (args.m == 1) first.a.rs = a.back(), first.c.rs = c.back();
    if (shape.size() == 1 && b[0] == 0 && a[0] == args.m * first.a.rs &&
        c[0] == args.m * first.c.rs) {  // all share b: their rows form one product
      first.m *= problems;
      problems = 1;
    }
  }

  // The products from `begin` on that are one step apart, at most to `end`.
  ProductRun<T> run(int64_t begin, int64_t end) const {
    ProductRun<T> r{std::min(end - begin, shape.back() - begin % shape.back()), first, a.back(),
                    b.back(), c.back()};
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

// Work in the units of threads_for. A tile does four fma in the time of one elsewhere; each product
// costs 256 more.
template <class T>
int64_t work_of(const Batch<T>& batch) {
  const Product<T>& p = batch.first;
  const double fma = static_cast<double>(p.m) * static_cast<double>(p.n) * static_cast<double>(p.k);
  const double work = static_cast<double>(batch.problems) / 4 * (fma + 256);
  return static_cast<int64_t>(std::min(work, 0x1p62));
}

thread_local Scratch scratch;

// Many problems: whole ones to each thread. Few: the segments of each are shared.
template <class T>
void multiply_each_long(const Batch<T>& batch, Team threads) {
  const bool whole = batch.problems >= 2 * threads;
  const Team alone{1, threads.work}, inside = whole ? alone : threads;
  const int64_t size = padded_to_page<T>(long_product_size(batch.first, inside));
  T* const memory = scratch.reserve_as<T>(whole ? size * threads : size);
  parallel_for(batch.problems, whole ? threads : alone,
               [&](int64_t begin, int64_t end, int thread) {
                 for (int64_t i = begin; i < end; ++i)
                   multiply_long(batch.run(i, i + 1).problem, inside, memory + thread * size);
               });
}

}  // namespace

template <class T>
void matmul(const MatmulArgs<T>& args) {
  if (args.n == 1) return matvec(args);
  const Batch<T> batch(args.c.cs != 1 && args.c.rs == 1 ? transposed(args) : args);
  const int64_t problems = batch.problems;
  const Product<T>& first = batch.first;
  if (problems == 0 || first.m == 0 || first.n == 0) return;

  if (is_long(first)) {
    multiply_each_long(batch, threads_for(first.k / L<T>, work_of(batch)));
    return scratch.trim();
  }

  // Many problems: whole ones to each thread. Few: each is cut along its longer side.
  const Team threads = threads_for(std::max({problems, first.m, first.n}), work_of(batch));
  const int64_t parts = problems >= 4 * threads || problems % threads == 0 ? 1 : threads;
  const int64_t per_thread = padded_to_page<T>(packing_size<T>(first.m, first.n, first.k));
  T* packing = scratch.reserve_as<T>(per_thread * threads);
  parallel_for(problems * parts, threads, [&](int64_t begin, int64_t end, int thread) {
    T* const own = packing + thread * per_thread;
    while (begin < end) {
      ProductRun<T> run = batch.run(begin / parts, parts > 1 ? begin / parts + 1 : end);
      if (parts > 1) run.problem = run.problem.part(begin % parts, parts);
      multiply(run, own);
      begin += run.count;
    }
  });
  scratch.trim();
}

template void matmul<float>(const MatmulArgs<float>&);
template void matmul<double>(const MatmulArgs<double>&);

}  // namespace gdcore::cpu
