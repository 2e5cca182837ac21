#include "fit/window_moments.hpp"

#include <utility>

namespace gdcore {

template <class T>
WindowMoments<T>::WindowMoments(const Problem<T>& problem, const Decay<T>& decay)
    : problem_(problem), decay_(&decay) {
  moments_.reset(problem.d, problem.t);
  touched_.resize(static_cast<size_t>(problem.d + 1 + problem.t));
}

template <class T>
Problem<T> WindowMoments<T>::rows() const {
  Problem<T> rows = problem_.rows(window_.begin, window_.end - window_.begin);
  if (*decay_) rows.sample_weight = {weights_.data(), 1};
  return rows;
}

template <class T>
Problem<T> WindowMoments<T>::weigh() const {
  return *decay_ ? decay_->weigh(problem_, window_.begin, window_.end, weights_) : rows();
}

template <class T>
bool WindowMoments<T>::sum(Window window, Budget& budget) {
  if (!fresh_) {
    window_ = window;
    fresh_.emplace(weigh());
  }
  if (!fresh_->run(budget)) return false;
  moments_ = std::move(fresh_->moments);
  moments_.close();
  fresh_.reset();
  for (int64_t a = 0; a < moments_.columns(); ++a) touched_[a] = moments_.square(a);
  ++recomputed_;
  return true;
}

template <class T>
bool WindowMoments<T>::slide(Window window, Budget& budget) {
  if (!fresh_) {
    move(window);
    if (!drifted()) return true;
  }
  return sum(window, budget);
}

template <class T>
void WindowMoments<T>::move(Window window) {
  const Window last = std::exchange(window_, window);
  if (*decay_) {
    const int64_t newer = decay_->power(window.end - 1) - decay_->power(last.end - 1);
    const double factor = std::ldexp(1.0, static_cast<int>(-newer));
    moments_.scale(factor);
    for (double& square : touched_) square *= factor;
  }
  add(last.end, window.end, 1);
  add(last.begin, window.begin, -1);
}

// `sign` times the moments of rows.
template <class T>
void WindowMoments<T>::add(int64_t first, int64_t last, double sign) {
  if (first == last) return;
  Problem<T> rows = problem_.rows(first, last - first);
  if (*decay_) {
    rows = decay_->weigh(problem_, first, last, part_weights_);
    const int64_t older = decay_->power(window_.end - 1) - decay_->power(last - 1);
    sign = std::ldexp(sign, static_cast<int>(-older));
  }
  part_.reset(problem_.d, problem_.t);
  problem_.device->moments(rows.args(nullptr), 0, ceil_div(rows.n, L<T>), part_);
  part_.close();
  moments_.add(part_, sign);
  for (int64_t a = 0; a < part_.columns(); ++a) touched_[a] += std::fabs(sign) * part_.square(a);
}

// Each product that enters or leaves adds a rounding error of the sums so far, so the error of the
// sums grows with the squares touched. See docs/numerics.md.
template <class T>
bool WindowMoments<T>::drifted() const {
  for (int64_t a = 0; a < moments_.columns(); ++a)
    if (!(touched_[a] <= 4 * moments_.square(a))) return true;
  return false;
}

template class WindowMoments<float>;
template class WindowMoments<double>;

}  // namespace gdcore
