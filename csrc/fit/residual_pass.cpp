#include "fit/residual_pass.hpp"

#include <atomic>
#include <cmath>

#include "fit/pivoted_qr.hpp"
#include "host.hpp"

namespace gdcore {
namespace {

constexpr int64_t lanes = 8;
constexpr int64_t block_rows = 64;

// The sum of a product over the rows of a block: row i in lane i mod 8, folded 4, 2, 1.
double inner(const double* a, const double* b, int64_t rows) {
  double sum[lanes] = {};
  for (int64_t i = 0; i < rows; i += lanes)
    for (int64_t l = 0; l < lanes; ++l) sum[l] += a[i + l] * b[i + l];
  for (int64_t half = lanes / 2; half > 0; half /= 2)
    for (int64_t l = 0; l < half; ++l) sum[l] += sum[l + half];
  return sum[0];
}

// y += factor * x
void add_multiple(double* y, double factor, const double* x, int64_t rows) {
  for (int64_t i = 0; i < rows; i += lanes)
    for (int64_t l = 0; l < lanes; ++l) y[i + l] += factor * x[i + l];
}

}  // namespace

template <class T>
void ResidualPass<T>::Block::resize(int64_t p, int64_t t) {
  has_full_leverage = false;
  for (auto* one : {&root, &share, &product, &residual, &factor}) one->resize(block_rows);
  for (auto* each : {&x, &z}) each->resize(static_cast<size_t>(p * block_rows));
  y.resize(static_cast<size_t>(t * block_rows));
}

template <class T>
void ResidualPass<T>::restart(const LeastSquares& solved, Covariance kind) {
  solved_ = &solved;
  kind_ = kind;
  has_full_leverage_ = false;
  hi_.assign(static_cast<size_t>(sum_count()), 0.0);
  lo_.assign(hi_.size(), 0.0);
}

template <class T>
void ResidualPass<T>::begin(const Problem<T>& rows) {
  problem_ = rows;
  host_rows_.restart();
  slices_.restart();
  row_ = 0;
}

template <class T>
bool ResidualPass<T>::run(Budget& budget) {
  const Device<T>& host = host_of(*problem_.device);
  const int64_t work = 4 * problem_.d + 2 * sum_count() + (has_meat() ? triangle() : 0);
  while (row_ < problem_.n) {
    const Problem<T> at_hand = host_rows_.from(problem_, row_);
    const auto add = [&](int64_t segment0, int64_t segment1) {
      add_segments(at_hand, segment0, segment1);
    };
    if (!slices_.run(host, at_hand.n, work, budget, add)) return false;
    row_ += at_hand.n;
  }
  return true;
}

// Threads sum segments, which are added in their order.
template <class T>
void ResidualPass<T>::add_segments(const Problem<T>& rows, int64_t segment0, int64_t segment1) {
  const int64_t count = segment1 - segment0, size = sum_count();
  partials_.assign(static_cast<size_t>(count * size), 0.0);
  block_.resize(solved_->p, solved_->t);
  if (count == 1) {
    sum_segment(rows, segment0, block_, partials_.data());
    has_full_leverage_ = has_full_leverage_ || block_.has_full_leverage;
  } else {
    std::atomic<int64_t> next{0};
    std::atomic<bool> has_full_leverage{false};
    host::on_threads(count, std::min(rows.n, count * L<T>) * size, [&] {
      Block block = block_;
      for (int64_t k = next++; k < count; k = next++)
        sum_segment(rows, segment0 + k, block, &partials_[k * size]);
      if (block.has_full_leverage) has_full_leverage = true;
    });
    has_full_leverage_ = has_full_leverage_ || has_full_leverage;
  }
  for (int64_t k = 0; k < count; ++k)
    for (int64_t j = 0; j < size; ++j) {
      const Pair sum = add({hi_[j], lo_[j]}, {partials_[k * size + j], 0.0});
      hi_[j] = sum.hi;
      lo_[j] = sum.lo;
    }
}

template <class T>
void ResidualPass<T>::sum_segment(const Problem<T>& all, int64_t segment, Block& block,
                                  double* sums) const {
  const int64_t end = std::min((segment + 1) * L<T>, all.n);
  for (int64_t first = segment * L<T>; first < end; first += block_rows) {
    read(all.rows(first, std::min(block_rows, end - first)), block);
    sums[0] += static_cast<double>(block.counted);
    sums[1] += block.weight;
    if (has_meat()) find_leverages(block);
    for (int64_t u = 0; u < solved_->t; ++u) {
      add_squares(u, block, sums + first_of(u));
      if (has_meat()) add_meat(block, sums + first_of(u) + 3);
    }
  }
}

template <class T>
void ResidualPass<T>::read(const Problem<T>& rows, Block& block) const {
  block.rows = ceil_div(rows.n, lanes) * lanes;
  block.counted = rows.n;
  block.weight = static_cast<double>(rows.n);
  for (int64_t i = 0; i < block.rows; ++i) block.root[i] = i < rows.n ? 1 : 0;
  if (rows.sample_weight.data) {
    block.counted = 0;
    block.weight = 0;
    for (int64_t i = 0; i < rows.n; ++i) {
      const double weight = rows.sample_weight.data[i * rows.sample_weight.stride];
      block.counted += weight > 0;
      block.weight += weight;
      block.root[i] = std::sqrt(weight);
    }
  }
  const auto copy = [&](double* to, const Matrix<const T>& from, int64_t j) {
    for (int64_t i = 0; i < rows.n; ++i)
      to[i] = block.root[i] * static_cast<double>(from.data[i * from.rs + j * from.cs]);
    for (int64_t i = rows.n; i < block.rows; ++i) to[i] = 0;
  };
  for (int64_t j = 0; j < rows.d; ++j) copy(block.column(block.x, j), rows.X, j);
  if (rows.fit_intercept) {
    double* const ones = block.column(block.x, rows.d);
    for (int64_t i = 0; i < block.rows; ++i) ones[i] = block.root[i];
  }
  for (int64_t u = 0; u < rows.t; ++u) {
    double* const to = block.column(block.y, u);
    copy(to, rows.y, u);
    if (!rows.offset.data) continue;
    for (int64_t i = 0; i < rows.n; ++i) {
      const double y = rows.y.data[i * rows.y.rs + u * rows.y.cs];
      const double offset = rows.offset.data[i * rows.offset.rs + u * rows.offset.cs];
      to[i] = block.root[i] * (y - offset);
    }
  }
}

// z = C^T D x, and 1 - z^T z.
template <class T>
void ResidualPass<T>::find_leverages(Block& block) const {
  const int64_t p = solved_->p, rows = block.rows;
  std::fill(block.z.begin(), block.z.end(), 0.0);
  for (int64_t i = 0; i < p; ++i) {
    const double* const x = block.column(block.x, solved_->order[i]);
    for (int64_t l = 0; l < rows; ++l) block.product[l] = solved_->scale[i] * x[l];
    for (int64_t k = i; k < p; ++k)
      add_multiple(block.column(block.z, k), solved_->inverse[i * p + k], block.product.data(),
                   rows);
  }
  if (kind_ < Covariance::hc2) return;
  const double limit = default_tolerance<double>(p);
  for (int64_t l = 0; l < rows; ++l) block.share[l] = 1;
  for (int64_t k = 0; k < p; ++k) {
    const double* const z = block.column(block.z, k);
    for (int64_t l = 0; l < rows; ++l) block.share[l] -= z[l] * z[l];
  }
  for (int64_t l = 0; l < rows; ++l)
    if (!(block.share[l] > limit)) block.has_full_leverage = true;
}

template <class T>
void ResidualPass<T>::add_squares(int64_t u, Block& block, double* sums) const {
  const double* const y = block.column(block.y, u);
  double *const e = block.residual.data(), *const deviation = block.product.data();
  std::copy(y, y + block.rows, e);
  for (int64_t j = 0; j < solved_->p; ++j)
    add_multiple(e, -solved_->params[j * solved_->t + u], block.column(block.x, j), block.rows);
  sums[0] += inner(e, e, block.rows);
  std::copy(y, y + block.rows, deviation);
  add_multiple(deviation, -solved_->mean[u], block.root.data(), block.rows);
  sums[1] += inner(deviation, block.root.data(), block.rows);
  sums[2] += inner(deviation, deviation, block.rows);
}

template <class T>
void ResidualPass<T>::add_meat(Block& block, double* sums) const {
  const int64_t p = solved_->p, rows = block.rows;
  double* const factor = block.factor.data();
  for (int64_t l = 0; l < rows; ++l) factor[l] = block.residual[l] * block.residual[l];
  const int64_t times = kind_ == Covariance::hc3 ? 2 : kind_ == Covariance::hc2 ? 1 : 0;
  for (int64_t n = 0; n < times; ++n)
    for (int64_t l = 0; l < rows; ++l) factor[l] /= block.share[l];
  for (int64_t a = 0; a < p; ++a) {
    const double* const z = block.column(block.z, a);
    for (int64_t l = 0; l < rows; ++l) block.product[l] = factor[l] * z[l];
    for (int64_t b = a; b < p; ++b)
      *sums++ += inner(block.product.data(), block.column(block.z, b), rows);
  }
}

template class ResidualPass<float>;
template class ResidualPass<double>;

}  // namespace gdcore
