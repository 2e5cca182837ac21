#include "fit/moments.hpp"

namespace gdcore {

template <class T>
void Quadratic<T>::resize(int64_t d, int64_t t, bool fit_intercept) {
  fit_intercept_ = fit_intercept;
  p_ = d + (fit_intercept ? 1 : 0);
  t_ = t;
  ld_ = ld_of(p_);
  gradient_.resize(static_cast<size_t>(2 * p_));
}

template <class T>
void Quadratic<T>::assign(int64_t d, int64_t t, bool fit_intercept, const double* values) {
  resize(d, t, fit_intercept);
  values_.assign(values, values + values_of(p_, t_));
}

template <class T>
void Quadratic<T>::assign(const Moments& m, bool fit_intercept) {
  resize(m.d, m.t, fit_intercept);
  values_.assign(static_cast<size_t>(values_of(p_, t_)), 0.0);
  const int64_t columns = m.columns();
  const auto put = [&](double* to, int64_t low, int64_t from) {
    const double sum = m.hi[from] + m.lo[from];  // so that the parts do not overlap
    *to = sum;
    to[low] = m.lo[from] - (sum - m.hi[from]);
  };
  double *const G = values_.data(), *target = G + 2 * p_ * ld_;
  for (int64_t a = 0; a < p_; ++a)
    for (int64_t b = a; b < p_; ++b)
      for (double* to : {G + a * ld_ + b, G + b * ld_ + a}) put(to, p_ * ld_, a * columns + b);
  double squares = 0;
  for (int64_t u = 0; u < t_; ++u, target += target_of(p_)) {
    for (int64_t a = 0; a < p_; ++a) put(target + a, p_, a * columns + m.d + 1 + u);
    put(target + 2 * p_, 1, (m.d + 1) * columns + u);
    squares += target[2 * p_];
  }
  target += target_of(p_);
  target[0] = m.hi[m.d * columns + m.d];
  target[1] = squares;
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
void Quadratic<T>::spread(double* G, double* c, double* s, int64_t lanes) const {
  for (int64_t part = 0; part < 2; ++part) {
    for (int64_t b = 0; b < p_; ++b)
      for (int64_t a = 0; a < p_; ++a) *G = values_[(part * p_ + b) * ld_ + a], G += lanes;
    for (int64_t a = 0; a < p_; ++a) *c = target(0)[part * p_ + a], c += lanes;
    *s = target(0)[2 * p_ + part], s += lanes;
  }
}

template <class T>
double Quadratic<T>::least_known(const T* params) const {
  const double rounding = sizeof(T) == 4 ? 0x1p-52 : 0x1p-100;
  double terms = squares();
  for (int64_t a = 0; a < p_; ++a)
    for (int64_t u = 0; u < t_; ++u) {
      const double w = params[a * t_ + u];
      terms += values_[a * ld_ + a] * w * w;
    }
  return 0x1p24 * static_cast<double>(p_ + 1) * rounding * terms;
}

template class Quadratic<float>;
template class Quadratic<double>;

}  // namespace gdcore
