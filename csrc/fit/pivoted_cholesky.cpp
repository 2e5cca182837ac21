#include "fit/pivoted_cholesky.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace gdcore {
namespace {

// The normal equations of a problem, from its second moments.
class Normal {
 public:
  Normal(const Moments& m, bool fit_intercept, double tolerance)
      : d_(m.d),
        p_(m.d + (fit_intercept ? 1 : 0)),
        width_(p_ + m.t),
        tolerance_(tolerance),
        factor_(p_, m.t) {
    const int64_t columns = m.columns();
    const auto sum = [&](int64_t from) {
      return two_sum(m.hi[from], m.lo[from]);  // so that the parts do not overlap
    };
    weights_ = sum(d_ * columns + d_);
    for (int64_t i = 0; i < p_; ++i) {
      for (int64_t j = i; j < p_; ++j) at(i, j) = sum(i * columns + j);
      for (int64_t u = 0; u < m.t; ++u) at(i, p_ + u) = sum(i * columns + d_ + 1 + u);
    }
  }

  // Adds decay * |parameters|^2, or that of the parameters of standardised columns, of which one
  // without spread keeps weight 0.
  void penalise(double decay, const ExactOptions& options) {
    const Pair factor{decay, 0};
    const bool decay_intercept = p_ > d_ && options.decay_intercept;
    std::vector<Pair> mean(static_cast<size_t>(d_)), variance(mean.size(), {1, 0});
    for (int64_t j = 0; j < d_ && options.standardize; ++j) spread(j, mean[j], variance[j]);
    for (int64_t i = 0; i < d_; ++i) {
      if (variance[i].hi == 0) {
        leave_out(i);
        continue;
      }
      at(i, i) = at(i, i) + factor * variance[i];
      if (!decay_intercept) continue;
      const Pair along = factor * mean[i];
      for (int64_t j = i; j < d_; ++j)
        if (variance[j].hi != 0) at(i, j) = at(i, j) + along * mean[j];
      at(i, d_) = at(i, d_) + along;
    }
    if (decay_intercept) at(d_, d_) = at(d_, d_) + factor;
  }

  Pivoted factorise() {
    Pivoted f{p_, width_, 0, tolerance_, {}, {}, {}};
    f.a.assign(static_cast<size_t>(p_ * width_), 0.0);
    f.scale.assign(static_cast<size_t>(p_), 1.0);
    scale(f);
    // The square of what is left of a column whose length was 1.
    const auto relative = [&](double square, int64_t column) {
      return square * unit_[column] * unit_[column];
    };
    f.rank = factor_.factorise(relative, [&](double square, double first) {
      return std::sqrt(square) > tolerance_ * std::sqrt(first);
    });
    f.column = factor_.order();
    for (int64_t k = 0; k < f.rank; ++k) {
      const double inverse_root = 1 / std::sqrt(at(k, k).hi);
      for (int64_t j = k; j < width_; ++j) {
        const double unit = j < p_ ? unit_[f.column[j]] : 1;
        f.a[k * width_ + j] = at(k, j).hi * inverse_root * unit;
      }
    }
    return f;
  }

  // After it: the sums of squares, in pairs.
  void describe(const Moments& m, double constant, LeastSquares& solved) {
    solved.centred = p_ > d_;
    solved.squares_known = true;
    for (int64_t u = 0; u < m.t; ++u) {
      const int64_t square = (d_ + 1) * m.columns() + u, sum = d_ * m.columns() + d_ + 1 + u;
      const Pair all = two_sum(m.hi[square], m.lo[square]);
      const Pair mean = two_sum(m.hi[sum], m.lo[sum]) / weights_;
      Pair left = all;
      for (int64_t k = 0; k < solved.rank; ++k) {
        const Pair along = at(k, p_ + u);
        left = left - along * along / at(k, k);
      }
      const double about = rounded(solved.centred ? all - weights_ * (mean * mean) : all);
      solved.mean[u] = solved.centred ? rounded(mean) : 0;
      solved.squares[u] = std::max(0.0, rounded(left));
      solved.total[u] = about > constant * all.hi ? about : 0;
    }
  }

 private:
  Pair& at(int64_t i, int64_t j) { return factor_.at(i, j); }

  // A column's mean and its variance around it, 0 if the variance is rounding error alone;
  // without an intercept around 0.
  void spread(int64_t j, Pair& mean, Pair& variance) {
    const Pair square = at(j, j) / weights_;
    variance = square;
    if (p_ == d_) return;
    mean = at(j, d_) / weights_;
    variance = square - mean * mean;
    if (!(variance.hi > tolerance_ * tolerance_ * square.hi)) variance = {0, 0};
  }

  void leave_out(int64_t i) {
    for (int64_t j = 0; j < i; ++j) at(j, i) = {0, 0};
    for (int64_t j = i; j < width_; ++j) at(i, j) = {0, 0};
    at(i, i) = {1, 0};
  }

  // Columns to lengths of 1 to 2, which is exact; f.scale makes them 1.
  void scale(Pivoted& f) {
    std::vector<double> power(static_cast<size_t>(p_), 1.0);
    for (int64_t j = 0; j < p_; ++j)
      if (at(j, j).hi > 0) power[j] = std::ldexp(1.0, -(std::ilogb(at(j, j).hi) >> 1));
    for (int64_t i = 0; i < p_; ++i)
      for (int64_t j = i; j < width_; ++j) {
        const double other = j < p_ ? power[j] : 1;
        at(i, j) = {at(i, j).hi * power[i] * other, at(i, j).lo * power[i] * other};
      }
    for (int64_t j = 0; j < p_; ++j) {
      unit_.push_back(at(j, j).hi > 0 ? 1 / std::sqrt(at(j, j).hi) : 1);
      f.scale[j] = power[j] * unit_[j];
    }
  }

  int64_t d_, p_, width_;
  double tolerance_;
  Pair weights_;
  PivotedCholesky<Pair> factor_;
  std::vector<double> unit_;  // times this a scaled column has length 1
};

}  // namespace

namespace {

// What sums of float32 rows round off is more than `rank_tolerance` knows of.
template <class T>
Normal normal_of(const Problem<T>& problem, const Moments& moments, const ExactOptions& options) {
  const int64_t p = problem.d + (problem.fit_intercept ? 1 : 0);
  double tolerance = rank_tolerance(p, std::numeric_limits<T>::epsilon(), options.rcond);
  if (sizeof(T) == 4 && options.rcond < 0) tolerance = std::max(tolerance, 0x1p-20);
  Normal normal(moments, problem.fit_intercept, tolerance);
  const double elements = moments.square(problem.d) * static_cast<double>(problem.t);
  const double decay = options.weight_decay * scale_of(problem.reduction, elements).divisor / 2;
  if (decay != 0) normal.penalise(decay, options);
  return normal;
}

}  // namespace

template <class T>
Pivoted factorise(const Problem<T>& problem, const Moments& moments, const ExactOptions& options) {
  return normal_of(problem, moments, options).factorise();
}

template <class T>
void describe(const Problem<T>& problem, const Moments& moments, const ExactOptions& options,
              LeastSquares& solved) {
  Normal normal = normal_of(problem, moments, options);
  const Pivoted factor = normal.factorise();
  solved.reset(factor.p, moments.t);
  solved.params = factor.solve();
  factor.describe(solved);
  normal.describe(moments, constant_share<T>, solved);
}

template Pivoted factorise<float>(const Problem<float>&, const Moments&, const ExactOptions&);
template Pivoted factorise<double>(const Problem<double>&, const Moments&, const ExactOptions&);
template void describe<float>(const Problem<float>&, const Moments&, const ExactOptions&,
                              LeastSquares&);
template void describe<double>(const Problem<double>&, const Moments&, const ExactOptions&,
                               LeastSquares&);

}  // namespace gdcore
