#include "fit/inference.hpp"

#include <algorithm>
#include <limits>

#include "fp_env.hpp"

namespace gdcore {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

}  // namespace

void Inferences::reset(int64_t count, int64_t p, int64_t t) {
  p_ = p;
  t_ = t;
  covariance.assign(static_cast<size_t>(count * t * p * p), nan);
  sigma2.assign(static_cast<size_t>(count * t), nan);
  r2.assign(sigma2.size(), nan);
  df_resid.assign(static_cast<size_t>(count), 0);
  flaw.assign(df_resid.size(), Flaw::not_solved);
}

InferenceView Inferences::at(int64_t i) {
  return {covariance.data() + i * t_ * p_ * p_, sigma2.data() + i * t_, r2.data() + i * t_,
          df_resid.data() + i, flaw.data() + i};
}

template <class T>
void Inference<T>::begin(Covariance kind) {
  kind_ = kind;
  if (needs_rows()) pass_.restart(solved, kind);
}

template <class T>
bool Inference<T>::needs_rows() const {
  return solved.rank == solved.p && (kind_ > Covariance::ols || !solved.squares_known);
}

template <class T>
bool Inference<T>::advance(double seconds) {
  FpEnv env;
  Budget budget(seconds);
  return run(budget);
}

template <class T>
void Inference<T>::write(const InferenceView& to) {
  const FpEnv env;
  const int64_t size = solved.p * solved.p;
  if (needs_rows() && !solved.squares_known) take_squares();
  const int64_t df = solved.rows - solved.p;
  *to.df_resid = df;
  *to.flaw = flaw();
  std::fill_n(to.covariance, solved.t * size, nan);
  for (int64_t u = 0; u < solved.t; ++u) {
    const bool known = *to.flaw == Flaw::none || *to.flaw == Flaw::leverage;
    const double total = solved.total[u];
    to.sigma2[u] = known ? solved.squares[u] / static_cast<double>(df) : nan;
    to.r2[u] = known && total > 0 ? 1 - solved.squares[u] / total : nan;
    if (*to.flaw != Flaw::none) continue;
    if (kind_ == Covariance::ols)
      write_ols(to.sigma2[u], to.covariance + u * size);
    else
      write_sandwich(u, to.covariance + u * size);
  }
}

template <class T>
Flaw Inference<T>::flaw() const {
  if (solved.rows <= solved.p) return Flaw::no_freedom;
  if (solved.rank < solved.p) return Flaw::singular;
  if (needs_rows() && pass_.has_full_leverage()) return Flaw::leverage;
  return Flaw::none;
}

// From the rows: about the mean by the deviations from what it was taken for (Chan, Golub, LeVeque
// 1983).
template <class T>
void Inference<T>::take_squares() {
  solved.rows = static_cast<int64_t>(pass_.rows());
  for (int64_t u = 0; u < solved.t; ++u) {
    const double mean = solved.mean[u], weight = pass_.weight();
    const double off = solved.centred ? pass_.deviation(u) * pass_.deviation(u) / weight : 0;
    const double about = pass_.deviation_squares(u) - off;
    const double all = about + weight * mean * mean;
    solved.squares[u] = pass_.squares(u);
    solved.total[u] = about > constant_share<T> * all ? about : 0;
  }
}

// entry(i, j) of each i <= j, in the order of the factor.
template <class T>
template <class Entry>
void Inference<T>::write_symmetric(double* to, Entry&& entry) const {
  const int64_t p = solved.p;
  for (int64_t i = 0; i < p; ++i)
    for (int64_t j = i; j < p; ++j) {
      const double value = entry(i, j) * solved.scale[i] * solved.scale[j];
      const int64_t a = solved.order[i], b = solved.order[j];
      to[a * p + b] = to[b * p + a] = value;
    }
}

// sigma^2 C C^T
template <class T>
void Inference<T>::write_ols(double sigma2, double* to) const {
  const int64_t p = solved.p;
  write_symmetric(to, [&](int64_t i, int64_t j) {
    const double *const a = &solved.inverse[i * p], *const b = &solved.inverse[j * p];
    double sum = 0;
    for (int64_t k = j; k < p; ++k) sum += a[k] * b[k];
    return sum * sigma2;
  });
}

// C M C^T, M being the meat.
template <class T>
void Inference<T>::write_sandwich(int64_t u, double* to) {
  const int64_t p = solved.p;
  const double* const C = solved.inverse.data();
  meat_.resize(static_cast<size_t>(p * p));
  int64_t entry = 0;
  for (int64_t a = 0; a < p; ++a)
    for (int64_t b = a; b < p; ++b) meat_[a * p + b] = meat_[b * p + a] = pass_.meat(u, entry++);
  half_.assign(meat_.size(), 0.0);
  for (int64_t i = 0; i < p; ++i)
    for (int64_t a = i; a < p; ++a)
      for (int64_t b = 0; b < p; ++b) half_[i * p + b] += C[i * p + a] * meat_[a * p + b];
  double factor = 1;
  if (kind_ == Covariance::hc1)
    factor = static_cast<double>(solved.rows) / static_cast<double>(solved.rows - p);
  write_symmetric(to, [&](int64_t i, int64_t j) {
    double sum = 0;
    for (int64_t k = j; k < p; ++k) sum += half_[i * p + k] * C[j * p + k];
    return sum * factor;
  });
}

template class Inference<float>;
template class Inference<double>;

}  // namespace gdcore
