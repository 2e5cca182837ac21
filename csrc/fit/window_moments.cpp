#include "fit/window_moments.hpp"

#include <utility>

namespace gdcore {

template <class T>
WindowMoments<T>::WindowMoments(const Problem<T>& problem, int64_t window, int64_t step)
    : problem_(problem), window_(window), step_(step) {
  moments_.reset(problem.d, problem.t);
  touched_.resize(static_cast<size_t>(problem.d + 1 + problem.t));
}

// f(sum of the squares of a column, its number), for each column of [X 1 y], while it returns true.
template <class T>
template <class F>
bool WindowMoments<T>::each_square(const Moments& moments, F&& f) const {
  for (int64_t a = 0; a < moments.columns(); ++a)
    if (!f(moments.square(a), a)) return false;
  return true;
}

// Sums computed again take as many products as the slides between them, so that they at most double
// the work.
template <class T>
bool WindowMoments<T>::next(Budget& budget) {
  if (!fresh_) {
    if (begun_) {
      if (2 * step_ * (slides_ + 1) <= window_) {
        slide();
        if (!drifted()) return true;
      } else {
        first_ += step_;
      }
    }
    begun_ = true;
    fresh_.emplace(rows());
  }
  if (!fresh_->run(budget)) return false;
  moments_ = std::move(fresh_->moments);
  moments_.close();
  fresh_.reset();
  each_square(moments_, [&](double square, int64_t a) {
    touched_[a] = square;
    return true;
  });
  slides_ = 0;
  ++recomputed_;
  return true;
}

template <class T>
void WindowMoments<T>::slide() {
  add(problem_.rows(first_ + window_, step_), 1);
  add(problem_.rows(first_, step_), -1);
  first_ += step_;
  ++slides_;
}

template <class T>
void WindowMoments<T>::add(const Problem<T>& rows, double sign) {
  part_.reset(problem_.d, problem_.t);
  problem_.device->moments(rows.args(nullptr), 0, ceil_div(rows.n, L<T>), part_);
  part_.close();
  moments_.add(part_, sign);
  each_square(part_, [&](double square, int64_t a) {
    touched_[a] += square;
    return true;
  });
}

// Each product that enters or leaves adds a rounding error of the sums so far, so the error of the
// sums grows with the squares touched. See docs/numerics.md.
template <class T>
bool WindowMoments<T>::drifted() const {
  return !each_square(moments_,
                      [&](double square, int64_t a) { return touched_[a] <= 4 * square; });
}

template class WindowMoments<float>;
template class WindowMoments<double>;

}  // namespace gdcore
