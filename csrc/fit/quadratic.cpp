#include "fit/quadratic.hpp"

#include <algorithm>

#include "fit/scaling.hpp"
#include "host.hpp"

namespace gdcore {

template <class T>
void Quadratic<T>::pack(const Moments& given, bool fit_intercept, const double* scaling,
                        double* packed) {
  Moments standardized;
  if (scaling) {
    standardized = given;
    standardize(standardized, scaling);
  }
  pack_moments<T>(scaling ? standardized : given, given, fit_intercept, packed);
}

template <class T>
void Quadratic<T>::assign(const Moments& m, bool fit_intercept, const double* scaling) {
  std::vector<double> packed(static_cast<size_t>(packed_size(m.d + (fit_intercept ? 1 : 0), m.t)));
  pack(m, fit_intercept, scaling, packed.data());
  assign(m.d, m.t, fit_intercept, packed.data());
}

template <class T>
void Quadratic<T>::assign(int64_t d, int64_t t, bool fit_intercept, const double* packed) {
  const int64_t p = d + (fit_intercept ? 1 : 0), size = packed_size(p, t);
  fit_intercept_ = fit_intercept;
  gradient_.resize(static_cast<size_t>(2 * p));
  packed_.assign(packed, packed + (p <= most_packed ? size : 0));
  tail_.assign(packed + sums_size(p, t), packed + size);
  sums_.unpack(p, t, packed);
}

template <class T>
bool Quadratic<T>::usable(int64_t p, int64_t t, const double* packed) {
  const int64_t sums = sums_size(p, t) / parts, pairs = p * (p + 1) / 2;
  double zeros = 0;  // NaN once a sum is not finite
  for (int64_t k = 0; k < sums; ++k) zeros += packed[k] * 0.0;
  bool in_range = zeros == 0;
  const auto look = [&](double square) {
    in_range = in_range && Moments::in_range(square, sizeof(T) == 4);
  };
  for (int64_t a = 0, at = 0; a < p; at += p - a++) look(packed[at]);
  for (int64_t u = 0; u < t; ++u) look(packed[pairs + u * (p + 1) + p]);
  return in_range;
}

template <class T>
void Quadratic<T>::put(int64_t u, int64_t t, double squares, LinearSums& out) const {
  const int64_t d = parameters() - (fit_intercept_ ? 1 : 0);
  for (int64_t j = 0; j < d; ++j) out.weights[j * t + u] = gradient_[j];
  if (fit_intercept_) out.intercept[u] = gradient_[d];
  out.squares += squares;
}

template <class T>
void Quadratic<T>::sums(const T* params, LinearSums& out) {
  out.sample_weight = sample_weight();
  out.squares = 0;
  const int64_t t = targets();
  for (int64_t u = 0; u < t; ++u)
    put(u, t, host::quadratic(sums_.at(u, params + u, t), gradient_.data()), out);
  if (out.squares < 0) out.squares = 0;  // by rounding: see noise_floor
}

template <class T>
void Quadratic<T>::product(const T* direction, LinearSums& out) {
  out.sample_weight = sample_weight();
  out.squares = 0;
  put(0, 1, host::quadratic(sums_.at(targets(), direction, 1), gradient_.data()), out);
}

template <class T>
double Quadratic<T>::noise_floor_of(int64_t p, double terms) {
  const double rounding = sizeof(T) == 4 ? 0x1p-52 : 0x1p-100;
  return 0x1p24 * static_cast<double>(p + 1) * rounding * terms;
}

template <class T>
double Quadratic<T>::noise_floor(const T* params) const {
  double terms = 0;
  const int64_t p = parameters(), t = targets();
  for (int64_t u = 0; u < t; ++u) terms += sums_.s(u);
  for (int64_t a = 0; a < p; ++a)
    for (int64_t u = 0; u < t; ++u) {
      const double w = params[a * t + u];
      terms += sums_.G(a, a) * w * w;
    }
  return noise_floor_of(p, terms);
}

template <class T>
double Quadratic<T>::noise_floor(int64_t p, int64_t t, const double* packed, const T* params) {
  const double *diagonal = packed, *const s = packed + p * (p + 1) / 2 + p;
  double terms = 0;
  for (int64_t u = 0; u < t; ++u) terms += s[u * (p + 1)];
  for (int64_t a = 0; a < p; diagonal += p - a++)
    for (int64_t u = 0; u < t; ++u) {
      const double w = params[a * t + u];
      terms += *diagonal * w * w;
    }
  return noise_floor_of(p, terms);
}

template class Quadratic<float>;
template class Quadratic<double>;

}  // namespace gdcore
