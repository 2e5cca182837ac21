#include "fit/normal_lanes.hpp"

#include <cmath>
#include <cstring>
#include <limits>

#include "fit/normal_limits.hpp"
#include "fit/quadratic.hpp"

namespace gdcore {
namespace {

constexpr int64_t most_params = 16;

// A bit for each lane where yes(lane).
template <class Yes>
unsigned mask_of(Yes&& yes) {
  unsigned mask = 0;
  for (int l = 0; l < 8; ++l) mask |= static_cast<unsigned>(yes(l)) << l;
  return mask;
}

// 2^-floor(log2(square) / 2), exact, of a normal number.
double scale_for(double square) {
  uint64_t bits;
  std::memcpy(&bits, &square, sizeof bits);
  const int64_t exponent = static_cast<int64_t>(bits >> 52) - 1023;
  bits = static_cast<uint64_t>(1023 - (exponent >> 1)) << 52;
  double scale;
  std::memcpy(&scale, &bits, sizeof scale);
  return scale;
}

}  // namespace

template <class T>
bool NormalLanes<T>::serve(const Problem<T>& size, const ExactOptions& options) {
  const int64_t p = size.size();
  return sizeof(T) == 4 && size.t == 1 && p >= 1 && p <= most_params && !options.standardize &&
         rank_tolerance(p, std::numeric_limits<T>::epsilon(), options.rcond) <= least_pivot;
}

template <class T>
NormalLanes<T>::NormalLanes(const Problem<T>& size, const ExactOptions& options)
    : p_(size.size()), penalised_(options.decay_intercept ? p_ : size.d) {
  const auto p = static_cast<size_t>(p_);
  G_.resize(p * (p + 1) / 2);
  c_.resize(p + 1);
  a_.resize(p * (p + 1));
  for (auto* of_params : {&scale_, &params_, &inverse_}) of_params->resize(p);
}

template <class T>
void NormalLanes<T>::load(int lane, const double* packed, double divisor, double weight_decay) {
  for (Eight& sum : G_) sum[lane] = *packed++;
  for (Eight& sum : c_) sum[lane] = *packed++;
  divisor_[lane] = divisor;
  penalty_[lane] = weight_decay * divisor / 2;
}

template <class T>
unsigned NormalLanes<T>::solve() {
  unsigned solved = factorise();
  if (solved) solved &= substitute() & measure();
  return solved;
}

template <class T>
void NormalLanes<T>::write(int lane, T* params, T* loss) const {
  for (int64_t i = 0; i < p_; ++i) params[i] = static_cast<T>(params_[i][lane]);
  *loss = static_cast<T>(squares_[lane] / divisor_[lane]);
}

// Lanes that fail go on with any numbers.
template <class T>
unsigned NormalLanes<T>::factorise() {
  unsigned solved = (1u << lanes) - 1;
  const auto added = [&](int64_t i) { return i < penalised_ ? penalty_ : Eight{}; };
  const Eight* G = G_.data();
  for (int64_t i = 0; i < p_; G += p_ - i++) {
    const Eight square = *G + added(i);
    for (int l = 0; l < lanes; ++l) scale_[i][l] = scale_for(square[l]);
    solved &= mask_of([&](int l) {
      return square[l] >= std::numeric_limits<double>::min() &&
             square[l] <= std::numeric_limits<double>::max();
    });
  }
  G = G_.data();
  for (int64_t i = 0; i < p_; ++i) {
    for (int64_t j = i; j < p_; ++j) at(i, j) = scale_[i] * *G++ * scale_[j];
    at(i, i) += scale_[i] * added(i) * scale_[i];
    at(i, p_) = scale_[i] * c_[i];
  }
  for (int64_t k = 0; k < p_; ++k) {
    const Eight pivot = at(k, k);
    solved &= mask_of([&](int l) { return pivot[l] > 1 / most_squares; });
    if (!solved) return 0;
    Eight root;
    for (int l = 0; l < lanes; ++l) root[l] = std::sqrt(pivot[l]);
    const Eight inverse_root = 1.0 / root;
    for (int64_t j = k; j <= p_; ++j) at(k, j) *= inverse_root;
    at(k, k) = inverse_root;
    for (int64_t i = k + 1; i < p_; ++i) {
      const Eight factor = at(k, i);
      for (int64_t j = i; j <= p_; ++j) at(i, j) -= factor * at(k, j);
    }
  }
  const Eight squares = squares_of_inverse();
  return solved & mask_of([&](int l) { return squares[l] <= most_squares; });
}

// Of the entries of R^-1.
template <class T>
typename NormalLanes<T>::Eight NormalLanes<T>::squares_of_inverse() {
  Eight all{};
  for (int64_t row = 0; row < p_; ++row) {
    Eight squares{};
    for (int64_t j = row; j < p_; ++j) inverse_[j] = Eight{} + (j == row ? 1.0 : 0.0);
    for (int64_t j = row; j < p_; ++j) {
      const Eight entry = inverse_[j] * at(j, j);
      for (int64_t k = j + 1; k < p_; ++k) inverse_[k] -= entry * at(j, k);
      squares += entry * entry;
    }
    all += squares;
  }
  return all;
}

template <class T>
unsigned NormalLanes<T>::substitute() {
  unsigned finite = (1u << lanes) - 1;
  for (int64_t i = p_; i-- > 0;) {
    Eight x = at(i, p_);
    for (int64_t j = i + 1; j < p_; ++j) x -= at(i, j) * at(j, p_);
    at(i, p_) = x *= at(i, i);
    const Eight param = scale_[i] * x;
    for (int l = 0; l < lanes; ++l) params_[i][l] = static_cast<T>(param[l]);
    finite &= mask_of([&](int l) { return std::isfinite(params_[i][l]); });
  }
  return finite;
}

template <class T>
unsigned NormalLanes<T>::measure() {
  Eight terms = Eight{} + c_[p_], squares = c_[p_];
  const Eight* G = G_.data();
  for (int64_t i = 0; i < p_; ++i) {
    const Eight w = params_[i];
    Eight along = *G * w - 2.0 * c_[i];
    terms += *G++ * w * w;
    for (int64_t j = i + 1; j < p_; ++j) along += 2.0 * *G++ * params_[j];
    squares += w * along;
  }
  squares_ = squares;
  return mask_of([&](int l) { return squares[l] > Quadratic<T>::noise_floor_of(p_, terms[l]); });
}

template class NormalLanes<float>;
template class NormalLanes<double>;

}  // namespace gdcore
