#include "fit/outlook.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace gdcore {
namespace {

// One Householder reflection for each column: A becomes tridiagonal, vectors go along.
void tridiagonalize(int64_t p, std::vector<double>& A, int64_t count, std::vector<double>& vectors,
                    std::vector<double>& diagonal, std::vector<double>& off) {
  std::vector<double> v(static_cast<size_t>(p)), w(static_cast<size_t>(p));
  for (int64_t k = 0; k < p; ++k) {
    diagonal[k] = A[k * p + k];
    if (k + 1 == p) break;
    double tail = 0;
    for (int64_t i = k + 2; i < p; ++i) tail += A[k * p + i] * A[k * p + i];
    const double head = A[k * p + k + 1];
    off[k] = head;
    if (tail == 0) continue;
    const double norm = std::sqrt(head * head + tail);
    off[k] = head > 0 ? -norm : norm;
    const double v0 = head - off[k], beta = -v0 / off[k];  // I - beta v v^T, v[k + 1] = 1
    v[k + 1] = 1;
    for (int64_t i = k + 2; i < p; ++i) v[i] = A[k * p + i] / v0;
    double along = 0;
    for (int64_t i = k + 1; i < p; ++i) {
      double sum = 0;
      for (int64_t j = k + 1; j < p; ++j) sum += A[i * p + j] * v[j];
      w[i] = beta * sum;
      along += w[i] * v[i];
    }
    for (int64_t i = k + 1; i < p; ++i) w[i] -= beta / 2 * along * v[i];
    for (int64_t i = k + 1; i < p; ++i)
      for (int64_t j = k + 1; j < p; ++j) A[i * p + j] -= v[i] * w[j] + w[i] * v[j];
    for (int64_t c = 0; c < count; ++c) {
      double* const x = vectors.data() + c * p;
      double sum = 0;
      for (int64_t i = k + 1; i < p; ++i) sum += v[i] * x[i];
      for (int64_t i = k + 1; i < p; ++i) x[i] -= beta * sum * v[i];
    }
  }
}

// QL with implicit shifts on the tridiagonal (diagonal, off).
void diagonalize(int64_t p, std::vector<double>& diagonal, std::vector<double>& off, int64_t count,
                 std::vector<double>& vectors) {
  constexpr int most_sweeps = 64;
  for (int64_t l = 0; l < p; ++l) {
    for (int sweep = 0; sweep < most_sweeps; ++sweep) {
      int64_t m = l;
      while (m + 1 < p &&
             std::fabs(off[m]) > 0x1p-53 * (std::fabs(diagonal[m]) + std::fabs(diagonal[m + 1])))
        ++m;
      if (m == l) break;
      const double half = (diagonal[l + 1] - diagonal[l]) / (2 * off[l]);
      const double root = std::sqrt(half * half + 1);
      double g = diagonal[m] - diagonal[l] + off[l] / (half + (half < 0 ? -root : root));
      double sine = 1, cosine = 1, moved = 0;
      int64_t i = m - 1;
      for (; i >= l; --i) {
        const double f = sine * off[i], b = cosine * off[i], r = std::sqrt(f * f + g * g);
        off[i + 1] = r;
        if (r == 0) {
          diagonal[i + 1] -= moved;
          off[m] = 0;
          break;
        }
        sine = f / r;
        cosine = g / r;
        const double next = diagonal[i + 1] - moved;
        const double turn = (diagonal[i] - next) * sine + 2 * cosine * b;
        moved = sine * turn;
        diagonal[i + 1] = next + moved;
        g = cosine * turn - b;
        for (int64_t c = 0; c < count; ++c) {
          double* const x = vectors.data() + c * p;
          const double above = x[i + 1];
          x[i + 1] = sine * x[i] + cosine * above;
          x[i] = cosine * x[i] - sine * above;
        }
      }
      if (i >= l) continue;
      diagonal[l] -= moved;
      off[l] = g;
      off[m] = 0;
    }
  }
}

// Natural logarithm by the series of atanh: the same bits on every machine, which a library's
// logarithm need not have.
double logarithm(double x) {
  int exponent = 0;
  double mantissa = std::frexp(x, &exponent);
  if (mantissa < 0x1.6a09e667f3bcdp-1) {
    mantissa *= 2;
    --exponent;
  }
  const double s = (mantissa - 1) / (mantissa + 1), square = s * s;
  double sum = 0;
  for (int k = 25; k >= 1; k -= 2) sum = sum * square + 1.0 / k;
  return exponent * 0x1.62e42fefa39efp-1 + 2 * s * sum;
}

}  // namespace

void eigen(int64_t p, std::vector<double> matrix, int64_t count, std::vector<double>& vectors,
           std::vector<double>& values) {
  double largest = 0;
  for (double entry : matrix) largest = std::max(largest, std::fabs(entry));
  const int exponent = largest > 0 && std::isfinite(largest) ? std::ilogb(largest) : 0;
  for (double& entry : matrix) entry = std::ldexp(entry, -exponent);  // exact
  std::vector<double> diagonal(static_cast<size_t>(p)), off(static_cast<size_t>(p));
  tridiagonalize(p, matrix, count, vectors, diagonal, off);
  diagonalize(p, diagonal, off, count, vectors);
  std::vector<int64_t> order(static_cast<size_t>(p));
  for (int64_t i = 0; i < p; ++i) order[i] = i;
  std::sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return diagonal[a] < diagonal[b] || (diagonal[a] == diagonal[b] && a < b);
  });
  values.resize(static_cast<size_t>(p));
  const std::vector<double> given = vectors;
  for (int64_t i = 0; i < p; ++i) {
    values[i] = std::ldexp(diagonal[order[i]], exponent);
    for (int64_t c = 0; c < count; ++c) vectors[c * p + i] = given[c * p + order[i]];
  }
}

// (error, velocity) of a mode, its first error being 1.
template <class T>
struct Outlook<T>::Mode {
  double error, velocity;
};

// An epoch as a matrix for each mode, and its powers 1, 2, 4 ...
template <class T>
class Outlook<T>::Powers {
 public:
  Powers(const std::vector<double>& values, const SgdOptions& sgd, double lr) : values_(values) {
    const double m = sgd.momentum, kept = m == 0 ? 1 : 1 - sgd.dampening;
    std::vector<Matrix2> once;
    for (double value : values) {
      const double along = sgd.nesterov ? value * (1 + m * kept) : value * kept;
      const double carried = sgd.nesterov ? m * m : m;
      once.push_back({1 - lr * along, -lr * carried, kept * value, m});
      const double first = sgd.nesterov ? value * (1 + m) : value;
      begun_.push_back({1 - lr * first, value});
    }
    powers_.push_back(once);
  }

  const std::vector<Mode>& begun() const { return begun_; }  // after the first epoch

  std::vector<Mode> advanced(const std::vector<Mode>& modes, int power) {
    while (static_cast<int>(powers_.size()) <= power) {
      std::vector<Matrix2> next = powers_.back();
      for (Matrix2& x : next)
        x = {x.a * x.a + x.b * x.c, x.b * (x.a + x.d), x.c * (x.a + x.d), x.b * x.c + x.d * x.d};
      powers_.push_back(next);
    }
    std::vector<Mode> to = modes;
    const std::vector<Matrix2>& by = powers_[static_cast<size_t>(power)];
    for (size_t i = 0; i < to.size(); ++i)
      to[i] = {by[i].a * modes[i].error + by[i].b * modes[i].velocity,
               by[i].c * modes[i].error + by[i].d * modes[i].velocity};
    return to;
  }

 private:
  struct Matrix2 {
    double a, b, c, d;
  };
  const std::vector<double>& values_;
  std::vector<Mode> begun_;
  std::vector<std::vector<Matrix2>> powers_;
};

template <class T>
void Outlook<T>::assign(const Quadratic<T>& quadratic, const Objective& objective,
                        const Goal<T>& goal, const T* start) {
  p_ = quadratic.parameters();
  t_ = quadratic.targets();
  std::vector<double> hessian(static_cast<size_t>(p_ * p_));
  for (int64_t a = 0; a < p_; ++a)
    for (int64_t b = 0; b < p_; ++b) {
      hessian[a * p_ + b] = objective.scale.gradient * quadratic.G(a, b).hi;
      if (a == b && a < objective.decayed) hessian[a * p_ + b] += objective.weight_decay;
    }
  components_.resize(static_cast<size_t>(t_ * p_));
  allowed_.resize(static_cast<size_t>(t_));
  spread_.resize(static_cast<size_t>(t_));
  for (int64_t u = 0; u < t_; ++u) {
    for (int64_t a = 0; a < p_; ++a)
      components_[u * p_ + a] = start[a * t_ + u] - goal.minimiser()[a * t_ + u];
    allowed_[u] = goal.allowed(u);
    spread_[u] = goal.spread(u);
  }
  eigen(p_, std::move(hessian), t_, components_, values_);
  const int64_t rank = std::min(goal.rank(), p_);
  largest_ = p_ > 0 ? std::max(values_.back(), 0.0) : 0.0;
  noise_ = 4 * static_cast<double>(p_) * 0x1p-53 * largest_;
  smallest_ = rank > 0 ? values_[static_cast<size_t>(p_ - rank)] : largest_;
  const bool resolved = rank == 0 || smallest_ >= noise_;
  for (double& value : values_)
    if (value < noise_) value = 0;  // makes no progress
  hidden_.assign(static_cast<size_t>(t_), 0.0);
  const std::vector<Mode> modes(static_cast<size_t>(p_), Mode{1, 0});
  for (int64_t u = 0; u < t_ && !resolved; ++u)
    hidden_[u] = std::max(0.0, goal.gap(start, u) - gap(u, modes));
}

template <class T>
double Outlook<T>::gap(int64_t u, const std::vector<Mode>& modes) const {
  double sum = hidden_[static_cast<size_t>(u)];
  for (int64_t i = 0; i < p_; ++i) {
    const double part = modes[static_cast<size_t>(i)].error * components_[u * p_ + i];
    if (values_[i] > 0) sum += values_[i] / 2 * part * part;
  }
  return sum;
}

template <class T>
bool Outlook<T>::arrived(const std::vector<Mode>& modes) const {
  for (int64_t u = 0; u < t_; ++u)
    if (!(gap(u, modes) <= allowed_[u])) return false;
  return true;
}

template <class T>
int64_t Outlook<T>::epochs(const SgdOptions& sgd, double lr) const {
  constexpr int64_t most_work = 1 << 24;
  const int64_t most = most_epochs(sgd, lr);
  if (sgd.momentum == 0 || most == never || most > most_work / std::max<int64_t>(p_ * t_, 1))
    return most;
  return first_arrival(sgd, lr, most);
}

// Simulates at most `most` epochs, one after another.
template <class T>
int64_t Outlook<T>::first_arrival(const SgdOptions& sgd, double lr, int64_t most) const {
  if (arrived(std::vector<Mode>(static_cast<size_t>(p_), Mode{1, 0}))) return 0;
  Powers powers(values_, sgd, lr);
  std::vector<Mode> here = powers.begun();
  int64_t epoch = 1;
  while (epoch < most && !arrived(here)) {
    here = powers.advanced(here, 0);
    ++epoch;
  }
  return epoch;
}

// By doubling, then by halving.
template <class T>
int64_t Outlook<T>::most_epochs(const SgdOptions& sgd, double lr) const {
  constexpr int most_power = 40;
  if (sgd.maximize) return never;
  for (int64_t u = 0; u < t_; ++u)
    if (hidden_[u] > allowed_[u]) return never;
  if (arrived(std::vector<Mode>(static_cast<size_t>(p_), Mode{1, 0}))) return 0;
  Powers powers(values_, sgd, lr);
  std::vector<Mode> here = powers.begun();
  if (arrived(here)) return 1;
  int power = 0;
  while (power < most_power && !arrived(powers.advanced(here, power))) ++power;
  if (power == most_power) return never;
  int64_t epochs = 1;
  while (power-- > 0) {
    std::vector<Mode> next = powers.advanced(here, power);
    if (arrived(next)) continue;
    here = std::move(next);
    epochs += int64_t{1} << power;
  }
  return epochs + 1;
}

template <class T>
double Outlook<T>::r2_lost(const SgdOptions& sgd, double lr, int64_t epochs) const {
  std::vector<Mode> here(static_cast<size_t>(p_), Mode{1, 0});
  if (epochs > 0) {
    Powers powers(values_, sgd, lr);
    here = powers.begun();
    for (int power = 0; (epochs - 1) >> power; ++power)
      if ((epochs - 1) >> power & 1) here = powers.advanced(here, power);
  }
  double most = std::numeric_limits<double>::quiet_NaN();
  for (int64_t u = 0; u < t_; ++u)
    if (spread_[u] > 0) most = std::fmax(most, gap(u, here) / spread_[u]);
  return most;
}

template <class T>
typename Outlook<T>::Rates Outlook<T>::heavy_ball(int64_t epochs, const Rates& kept) const {
  constexpr double above = 1.05;  // at the largest eigenvalue itself rounding errors diverge
  const double L = largest_ > 0 ? above * largest_ : 1.0;  // of a flat loss, any
  const double root = 1 + std::sqrt(kept.momentum);
  if (std::fabs(root * root / kept.lr - L) <= 1e-9 * L) return kept;
  const auto rates = [&](double m) -> Rates {
    m = std::min(m, 0.999 * L);  // so that there is some momentum
    const double roots = std::sqrt(L) + std::sqrt(m),
                 ratio_of_roots = (std::sqrt(L) - std::sqrt(m)) / roots;
    return {4 / (roots * roots), ratio_of_roots * ratio_of_roots};
  };
  const double m = std::max(smallest_, noise_);
  const Rates all = rates(m);
  SgdOptions sgd;
  sgd.momentum = all.momentum;
  int64_t needed = most_epochs(sgd, all.lr);
  if (needed != never && needed > epochs && needed / 2 <= epochs)
    needed = this->epochs(sgd, all.lr);
  if (needed != never && needed <= epochs) return all;
  const std::vector<Mode> start(static_cast<size_t>(p_), Mode{1, 0});
  double ratio = 1;
  for (int64_t u = 0; u < t_; ++u) ratio = std::max(ratio, gap(u, start) / allowed_[u]);
  const double budget = logarithm(ratio) / (4 * static_cast<double>(std::max<int64_t>(epochs, 1)));
  return rates(std::max(m, L * budget * budget));  // gives up modes that are too slow
}

template class Outlook<float>;
template class Outlook<double>;

}  // namespace gdcore
