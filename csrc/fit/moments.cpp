#include "fit/moments.hpp"

namespace gdcore {

template <class T>
Quadratic<T>::Quadratic(const Moments& m, bool fit_intercept)
    : fit_intercept_(fit_intercept),
      p_(m.d + (fit_intercept ? 1 : 0)),
      t_(m.t),
      ld_((p_ + 7) / 8 * 8),
      G_(static_cast<size_t>(2 * p_ * ld_)),
      targets_(static_cast<size_t>((t_ + 1) * (2 * p_ + 2))),
      gradient_(static_cast<size_t>(2 * p_)) {
  const int64_t columns = m.columns();
  const auto put = [](double* to, int64_t low, const std::vector<double>& hi,
                      const std::vector<double>& lo, int64_t from) {
    const double sum = hi[from] + lo[from];  // so that the parts do not overlap
    *to = sum;
    to[low] = lo[from] - (sum - hi[from]);
  };
  for (int64_t a = 0; a < p_; ++a)
    for (int64_t b = a; b < p_; ++b)
      for (double* to : {&G_[a * ld_ + b], &G_[b * ld_ + a]})
        put(to, p_ * ld_, m.hi, m.lo, a * columns + b);
  for (int64_t u = 0; u < t_; ++u) {
    double* const target = &targets_[u * (2 * p_ + 2)];
    for (int64_t a = 0; a < p_; ++a) put(target + a, p_, m.hi, m.lo, a * columns + m.d + 1 + u);
    put(target + 2 * p_, 1, m.hi, m.lo, (m.d + 1) * columns + u);
    squares_ += target[2 * p_];
  }
  sample_weight_ = m.hi[m.d * columns + m.d];
}

template <class T>
double Quadratic<T>::evaluate(const double* target, const T* params, int64_t stride) {
  return device<T>().quadratic({p_, ld_, G_.data(), target, target + 2 * p_, params, stride},
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
  out.sample_weight = sample_weight_;
  out.squares = 0;
  for (int64_t u = 0; u < t_; ++u)
    put(u, t_, evaluate(&targets_[u * (2 * p_ + 2)], params + u, t_), out);
  if (out.squares < 0) out.squares = 0;  // by rounding: see `least_known`
}

template <class T>
void Quadratic<T>::product(const T* direction, LinearSums& out) {
  out.sample_weight = sample_weight_;
  out.squares = 0;
  put(0, 1, evaluate(&targets_[t_ * (2 * p_ + 2)], direction, 1), out);
}

template <class T>
void Quadratic<T>::spread(double* G, double* c, double* s, int64_t lanes) const {
  for (int64_t part = 0; part < 2; ++part) {
    for (int64_t b = 0; b < p_; ++b)
      for (int64_t a = 0; a < p_; ++a) *G = G_[(part * p_ + b) * ld_ + a], G += lanes;
    for (int64_t a = 0; a < p_; ++a) *c = targets_[part * p_ + a], c += lanes;
    *s = targets_[2 * p_ + part], s += lanes;
  }
}

template <class T>
double Quadratic<T>::least_known(const T* params) const {
  const double rounding = sizeof(T) == 4 ? 0x1p-52 : 0x1p-100;
  double terms = squares_;
  for (int64_t a = 0; a < p_; ++a)
    for (int64_t u = 0; u < t_; ++u) {
      const double w = params[a * t_ + u];
      terms += G_[a * ld_ + a] * w * w;
    }
  return 0x1p24 * static_cast<double>(p_ + 1) * rounding * terms;
}

template class Quadratic<float>;
template class Quadratic<double>;

}  // namespace gdcore
