#include "fit/scaling.hpp"

#include <limits>

namespace gdcore {
namespace {

// Entry of [X 1]^T [X 1 y] by columns, in either order.
Pair entry(const Moments& m, int64_t a, int64_t b) {
  const int64_t i = std::min(a, b) * m.columns() + std::max(a, b);
  return Pair{m.hi[i], 0.0} + Pair{m.lo[i], 0.0};
}

void set(Moments& m, int64_t i, Pair value) {
  m.hi[i] = value.hi;
  m.lo[i] = value.lo;
}

}  // namespace

template <class T>
void find_scaling(const Moments& m, bool fit_intercept, double* scaling) {
  const Pair n = entry(m, m.d, m.d);
  const double tolerance = default_tolerance<T>(m.d + (fit_intercept ? 1 : 0));
  for (int64_t j = 0; j < m.d; ++j) {
    const Pair sum = entry(m, j, m.d), square = entry(m, j, j) / n;
    const Pair mean = fit_intercept ? sum / n : Pair{};
    const double variance = rounded(square - mean * mean), mean_square = rounded(square);
    const bool constant = !(variance > tolerance * tolerance * mean_square);
    scaling[j] = mean.hi;
    scaling[m.d + j] = constant ? 0.0 : 1 / std::sqrt(variance);
  }
  for (int64_t u = 0; u < m.t; ++u)
    scaling[2 * m.d + u] = fit_intercept ? (entry(m, m.d, m.d + 1 + u) / n).hi : 0.0;
}

void standardize(Moments& m, const double* scaling) {
  const int64_t d = m.d, columns = m.columns();
  const Pair n = entry(m, d, d);
  std::vector<double> mean(static_cast<size_t>(columns)), factor(mean.size(), 1.0);
  std::vector<Pair> sum(mean.size());
  for (int64_t j = 0; j < d; ++j) {
    mean[j] = scaling[j];
    factor[j] = scaling[d + j];
  }
  for (int64_t u = 0; u < m.t; ++u) mean[d + 1 + u] = scaling[2 * d + u];
  for (int64_t j = 0; j < columns; ++j) sum[j] = entry(m, j, d);
  const auto shifted = [&](Pair product, int64_t a, int64_t b) {
    const Pair cross = sum[b] * mean[a] + sum[a] * mean[b];
    return (product - cross + n * Pair{mean[a], 0.0} * mean[b]) * factor[a] * factor[b];
  };
  for (int64_t a = 0; a <= d; ++a)
    for (int64_t b = a; b < columns; ++b)
      if (b != d || a != d) set(m, a * columns + b, shifted(entry(m, a, b), a, b));
  for (int64_t u = 0; u < m.t; ++u) {
    const int64_t i = (d + 1) * columns + u;
    set(m, i, shifted(Pair{m.hi[i], 0.0} + Pair{m.lo[i], 0.0}, d + 1 + u, d + 1 + u));
  }
}

template <class T>
void to_scaled(const double* scaling, int64_t d, int64_t t, bool fit_intercept, T* params) {
  for (int64_t u = 0; u < t; ++u) {
    Pair intercept{fit_intercept ? static_cast<double>(params[d * t + u]) : 0.0, 0.0};
    intercept = intercept - Pair{scaling[2 * d + u], 0.0};
    for (int64_t j = 0; j < d; ++j) {
      T& w = params[j * t + u];
      intercept = add_product(intercept, scaling[j], static_cast<double>(w));
      w = static_cast<T>(scaling[d + j] == 0 ? 0.0 : static_cast<double>(w) / scaling[d + j]);
    }
    if (fit_intercept) params[d * t + u] = static_cast<T>(rounded(intercept));
  }
}

template <class T>
void from_scaled(const double* scaling, int64_t d, int64_t t, bool fit_intercept, T* params) {
  for (int64_t u = 0; u < t; ++u) {
    Pair intercept{scaling[2 * d + u], 0.0};
    if (fit_intercept) intercept = intercept + Pair{static_cast<double>(params[d * t + u]), 0.0};
    for (int64_t j = 0; j < d; ++j) {
      T& w = params[j * t + u];
      w = static_cast<T>(static_cast<double>(w) * scaling[d + j]);
      intercept = add_product(intercept, -scaling[j], static_cast<double>(w));
    }
    if (fit_intercept) params[d * t + u] = static_cast<T>(rounded(intercept));
  }
}

template void find_scaling<float>(const Moments&, bool, double*);
template void find_scaling<double>(const Moments&, bool, double*);
template void to_scaled<float>(const double*, int64_t, int64_t, bool, float*);
template void to_scaled<double>(const double*, int64_t, int64_t, bool, double*);
template void from_scaled<float>(const double*, int64_t, int64_t, bool, float*);
template void from_scaled<double>(const double*, int64_t, int64_t, bool, double*);

}  // namespace gdcore
