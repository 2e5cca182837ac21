#include "fit/quadratic.hpp"

#include <algorithm>

#include "fit/scaling.hpp"

namespace gdcore {

// Each part of a sum in a run of its own: G, then c and s of each target.
template <class T>
void Quadratic<T>::pack(const Moments& given, bool fit_intercept, const double* scaling,
                        double* packed) {
  Moments standardized;
  if (scaling) {
    standardized = given;
    standardize(standardized, scaling);
  }
  const Moments& m = scaling ? standardized : given;
  const int64_t p = m.d + (fit_intercept ? 1 : 0), columns = m.columns();
  const int64_t low = p * (p + 1) / 2 + m.t * (p + 1);
  double* to = packed;
  const auto put = [&](int64_t from) {
    const double sum = m.hi[from] + m.lo[from];  // so that the parts do not overlap
    if (parts == 2) to[low] = m.lo[from] - (sum - m.hi[from]);
    *to++ = sum;
  };
  for (int64_t a = 0; a < p; ++a)
    for (int64_t b = a; b < p; ++b) put(a * columns + b);
  for (int64_t u = 0; u < m.t; ++u) {
    for (int64_t a = 0; a < p; ++a) put(a * columns + m.d + 1 + u);
    put((m.d + 1) * columns + u);
  }
  double* const tail = packed + parts * low;
  const auto keep = [&](int64_t from, double* to) {
    to[0] = given.hi[from];
    to[1] = given.lo[from];
  };
  keep(m.d * (columns + 1), tail);
  for (int64_t u = 0; u < m.t; ++u) {
    keep(m.d * columns + m.d + 1 + u, tail + 2 + 4 * u);
    keep((m.d + 1) * columns + u, tail + 4 + 4 * u);
  }
}

template <class T>
void Quadratic<T>::assign(const Moments& m, bool fit_intercept, const double* scaling) {
  std::vector<double> packed(static_cast<size_t>(packed_size(m.d + (fit_intercept ? 1 : 0), m.t)));
  pack(m, fit_intercept, scaling, packed.data());
  assign(m.d, m.t, fit_intercept, packed.data());
}

template <class T>
void Quadratic<T>::assign(int64_t d, int64_t t, bool fit_intercept, const double* packed) {
  fit_intercept_ = fit_intercept;
  p_ = d + (fit_intercept ? 1 : 0);
  t_ = t;
  ld_ = ld_of(p_);
  gradient_.resize(static_cast<size_t>(2 * p_));
  const int64_t size = packed_size(p_, t);
  packed_.assign(packed, packed + (p_ <= most_lane_params ? size : 0));
  tail_.assign(packed + sums_size(p_, t), packed + size);
  values_.assign(static_cast<size_t>(2 * p_ * ld_ + (t + 1) * target_of(p_)), 0.0);
  for (int64_t part = 0; part < parts; ++part) {
    double* const G = values_.data() + part * p_ * ld_;
    for (int64_t a = 0; a < p_; ++a)
      for (int64_t b = a; b < p_; ++b) G[a * ld_ + b] = G[b * ld_ + a] = *packed++;
    double* target = values_.data() + 2 * p_ * ld_;
    for (int64_t u = 0; u < t; ++u, target += target_of(p_)) {
      for (int64_t a = 0; a < p_; ++a) target[part * p_ + a] = *packed++;
      target[2 * p_ + part] = *packed++;
    }
  }
}

template <class T>
double Quadratic<T>::evaluate(const double* target, const T* params, int64_t stride) {
  return device<T>().quadratic({p_, ld_, values_.data(), target, target + 2 * p_, params, stride},
                               gradient_.data());
}

template <class T>
void Quadratic<T>::put(int64_t u, int64_t t, double squares, LinearSums& out) const {
  const int64_t d = p_ - (fit_intercept_ ? 1 : 0);
  for (int64_t j = 0; j < d; ++j) out.weights[j * t + u] = gradient_[j];
  if (fit_intercept_) out.intercept[u] = gradient_[d];
  out.squares += squares;
}

template <class T>
void Quadratic<T>::sums(const T* params, LinearSums& out) {
  out.sample_weight = sample_weight();
  out.squares = 0;
  for (int64_t u = 0; u < t_; ++u) put(u, t_, evaluate(target(u), params + u, t_), out);
  if (out.squares < 0) out.squares = 0;  // by rounding: see `least_known`
}

template <class T>
void Quadratic<T>::product(const T* direction, LinearSums& out) {
  out.sample_weight = sample_weight();
  out.squares = 0;
  put(0, 1, evaluate(target(t_), direction, 1), out);
}

template <class T>
void Quadratic<T>::spread(int64_t p, const double* packed, int64_t lanes, double* G, double* c,
                          double* s) {
  for (int64_t part = 0; part < parts; ++part, G += p * p * lanes, c += p * lanes, s += lanes) {
    for (int64_t a = 0; a < p; ++a)
      for (int64_t b = a; b < p; ++b) G[(a * p + b) * lanes] = G[(b * p + a) * lanes] = *packed++;
    for (int64_t a = 0; a < p; ++a) c[a * lanes] = *packed++;
    *s = *packed++;
  }
}

template <class T>
double Quadratic<T>::least_known_of(int64_t p, double terms) {
  const double rounding = sizeof(T) == 4 ? 0x1p-52 : 0x1p-100;
  return 0x1p24 * static_cast<double>(p + 1) * rounding * terms;
}

template <class T>
double Quadratic<T>::least_known(const T* params) const {
  double terms = 0;
  for (int64_t u = 0; u < t_; ++u) terms += target(u)[2 * p_];
  for (int64_t a = 0; a < p_; ++a)
    for (int64_t u = 0; u < t_; ++u) {
      const double w = params[a * t_ + u];
      terms += values_[a * ld_ + a] * w * w;
    }
  return least_known_of(p_, terms);
}

template <class T>
double Quadratic<T>::least_known(int64_t p, const double* packed, const T* params) {
  const double* diagonal = packed;
  double terms = packed[p * (p + 1) / 2 + p];
  for (int64_t a = 0; a < p; diagonal += p - a++) {
    const double w = params[a];
    terms += *diagonal * w * w;
  }
  return least_known_of(p, terms);
}

template class Quadratic<float>;
template class Quadratic<double>;

}  // namespace gdcore
