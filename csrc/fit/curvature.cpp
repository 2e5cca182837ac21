#include "fit/curvature.hpp"

#include <algorithm>

#include "fit/host_rows.hpp"
#include "fp_env.hpp"

namespace gdcore {
namespace {

// Whether moments take less than min(p, about 32) passes over the rows (docs/experiments.md).
template <class T>
bool moments_cheaper(const Problem<T>& problem) {
  constexpr int64_t fewest = sizeof(T) == 4 ? 6 : 12, most = sizeof(T) == 4 ? 128 : 32;
  constexpr int64_t fewest_rows = 64;
  return problem.size() >= fewest && problem.size() <= most && problem.n >= fewest_rows;
}

}  // namespace

template <class T>
void Spectrum<T>::restart(const Problem<T>& problem, const Quadratic<T>* quadratic) {
  problem_ = problem;
  targets_ = problem.t;
  on_quadratic_ = quadratic != nullptr;
  if (on_quadratic_) quadratic_ = *quadratic;
  problem_.t = 1;
  problem_.offset = {nullptr, 0, 0};
  moments_due_ = !on_quadratic_ && targets_ > 0 && moments_cheaper(problem_);
  if (moments_due_) moments_.restart(problem_);
  problem_.y = {nullptr, 0, 0};
  pass_.restart();
  pass_.sums.reset(problem.d, 1);
  scale_ = 0;
  lanczos_.restart(problem_.size());
}

template <class T>
bool Spectrum<T>::advance(double seconds) {
  FpEnv env;
  Budget budget(seconds);
  return advance(budget);
}

template <class T>
bool Spectrum<T>::advance(Budget& budget) {
  if (moments_due_ && !lanczos_.done() && !sum_moments(budget)) return false;
  while (!lanczos_.done()) {
    direction_.assign(lanczos_.direction(), lanczos_.direction() + problem_.size());
    if (on_quadratic_)
      quadratic_.product(direction_.data(), pass_.sums);
    else if (!pass_.run(*problem_.device, problem_.args(direction_.data()), budget))
      return false;
    step();
    if (budget.spent(0)) break;
  }
  return lanczos_.done();
}

// False if that needs another call. Where their squares leave the range, the rows stay.
template <class T>
bool Spectrum<T>::sum_moments(Budget& budget) {
  if (!moments_.run(budget)) return false;
  moments_due_ = false;
  on_quadratic_ = moments_.moments.in_range(sizeof(T) == 4);
  if (on_quadratic_) quadratic_.assign(moments_.moments, problem_.fit_intercept, problem_.scaling);
  return true;
}

template <class T>
void Spectrum<T>::step() {
  const double elements = problem_.count(problem_.n, pass_.sums) * static_cast<double>(targets_);
  scale_ = scale_of(problem_.reduction, elements).gradient;
  image_.assign(pass_.sums.weights.begin(), pass_.sums.weights.end());
  if (problem_.fit_intercept) image_.push_back(pass_.sums.intercept[0]);
  lanczos_.step(image_.data());
}

template class Spectrum<float>;
template class Spectrum<double>;

template <class T>
double largest_row(const Problem<T>& problem) {
  const bool sum = problem.reduction == Reduction::sum || problem.reduction == Reduction::half_sum;
  const LinearArgs<T> args = problem.args(nullptr);
  double largest = 0;
  HostRows<T> host_rows;
  for (int64_t first = 0; first < problem.n;) {
    const Problem<T> rows = host_rows.from(problem, first);
    for (int64_t i = 0; i < rows.n; ++i) {
      double squares = problem.fit_intercept ? 1 : 0;
      for (int64_t j = 0; j < problem.d; ++j) {
        const T given = rows.X.data[i * rows.X.rs + j * rows.X.cs];
        const double x = problem.scaling ? args.scaled_x(given, j) : given;
        squares += x * x;
      }
      if (sum && rows.sample_weight.data)
        squares *= rows.sample_weight.data[i * rows.sample_weight.stride];
      largest = std::max(largest, squares);
    }
    first += rows.n;
  }
  return scale_of(problem.reduction, static_cast<double>(problem.t)).gradient * largest;
}
template double largest_row<float>(const Problem<float>&);
template double largest_row<double>(const Problem<double>&);

}  // namespace gdcore
