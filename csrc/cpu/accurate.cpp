// Products in more than the data's precision: operands converted to double block by block, tiles
// over them.
#include <algorithm>

#include "cpu/dispatch.hpp"
#include "cpu/operations.hpp"
#include "cpu/parallel.hpp"
#include "cpu/scratch.hpp"
#include "cpu/threads.hpp"

namespace gdcore::cpu {
namespace {

constexpr int64_t rows_of_block = 96, columns_of_block = 192, terms_of_block = 256;

// x (k,n) in double, rows ld apart; the elements behind them stay.
template <class T>
void to_double(int64_t k, int64_t n, Matrix<const T> x, double* out, int64_t ld) {
  for (int64_t p = 0; p < k; ++p)
    for (int64_t j = 0; j < n; ++j) out[p * ld + j] = x.data[p * x.rs + j * x.cs];
}

// One block of rows and columns of one product, over all of k.
template <class T>
class AccurateBlocks {
 public:
  explicit AccurateBlocks(const AccurateArgs<T>& args)
      : args_(args),
        rows_(std::min(args.m, rows_of_block)),
        columns_(std::min(lines<double>(args.n), columns_of_block)),
        terms_(std::min(args.k, terms_of_block)) {}

  int64_t row_blocks() const { return ceil_div(args_.m, rows_of_block); }
  int64_t column_blocks() const { return ceil_div(args_.n, columns_of_block); }
  int64_t memory() const { return lines<double>(rows_ * terms_) + columns_ * terms_; }

  void run(int64_t problem, int64_t row_block, int64_t column_block, double* memory) const {
    const int64_t i = row_block * rows_of_block, j = column_block * columns_of_block;
    const int64_t m = std::min(rows_of_block, args_.m - i),
                  n = std::min(columns_of_block, args_.n - j);
    Matrix<const T> a = args_.a, b = args_.b;
    a.data += offset_of(problem, args_.batch, args_.a_batch) + i * a.rs;
    b.data += offset_of(problem, args_.batch, args_.b_batch) + j * b.cs;
    double* const a_doubles = memory;
    double* const b_doubles = memory + lines<double>(rows_ * terms_);
    double* const hi = args_.hi + (problem * args_.m + i) * args_.n + j;
    for (int64_t p = 0; p < std::max<int64_t>(args_.k, 1); p += terms_of_block) {
      const int64_t k = std::min(terms_of_block, args_.k - p);
      to_double<T>(k, m, {a.data + p * a.cs, a.cs, a.rs}, a_doubles, m);
      to_double<T>(k, n, {b.data + p * b.rs, b.rs, b.cs}, b_doubles, columns_);
      isa<T>().accurate(
          {m, n, k, a_doubles, m, b_doubles, columns_, hi, args_.n, args_.lo, args_.size, p > 0});
    }
  }

 private:
  const AccurateArgs<T>& args_;
  int64_t rows_, columns_, terms_;
};

thread_local Scratch scratch;

}  // namespace

template <class T>
void accurate(const AccurateArgs<T>& args) {
  int64_t problems = 1;
  for (int64_t size : args.batch) problems *= size;
  if (problems == 0 || args.m == 0 || args.n == 0) return;
  constexpr double cost = sizeof(T) == 4 ? 2 : 11;  // vector operations to a product
  const AccurateBlocks<T> blocks(args);
  const int64_t columns = blocks.column_blocks(), parts = blocks.row_blocks() * columns;
  const double work = cost * static_cast<double>(problems) * static_cast<double>(args.m) *
                      static_cast<double>(args.n) * static_cast<double>(args.k);
  const Team threads = threads_for(problems * parts, static_cast<int64_t>(std::min(work, 0x1p62)));
  const int64_t per_thread = padded_to_page<double>(blocks.memory());
  double* const memory = scratch.reserve_as<double>(per_thread * threads);
  std::fill(memory, memory + per_thread * threads, 0.0);  // whole vectors are read
  parallel_for(problems * parts, threads, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t part = task % parts;
      blocks.run(task / parts, part / columns, part % columns, memory + thread * per_thread);
    }
  });
}
template void accurate<float>(const AccurateArgs<float>&);
template void accurate<double>(const AccurateArgs<double>&);

}  // namespace gdcore::cpu
