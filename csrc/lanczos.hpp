// The largest eigenvalue of a symmetric matrix without negative ones, from its products: Lanczos
// with full reorthogonalisation (Golub, Van Loan, 10.3). These plain loops define the bits; the CPU
// does the same in lanes (cpu/isa/lanczos_lanes.hpp).
#pragma once

#include <cmath>
#include <vector>

#include "device.hpp"
#include "packed_quadratic.hpp"

namespace gdcore {

// Diagonal numbers, and those beside them.
struct Tridiagonal {
  std::vector<double> diagonal, off;
};

// Asks for products until it is done; its memory serves matrix after matrix.
class Lanczos {
 public:
  static constexpr double accuracy = 1e-6;        // of the eigenvalue, relative
  static constexpr int64_t most_exponent = 1000;  // of the scale that keeps squares in range

  void restart(int64_t p);  // of p rows
  static std::vector<double> random_start(int64_t p);

  bool done() const { return done_; }
  // The unit vector (p) whose product `step` needs, and overwrites.
  const double* direction() const { return basis_.data() + basis_.size() - start_.size(); }
  void step(double* image);

  double largest() const {
    return std::ldexp(largest_, exponent_);
  }  // a Ritz value: never above the true one, but for rounding
  double residual() const {
    return std::ldexp(residual_, exponent_);
  }  // an eigenvalue lies within this of it

 private:
  int64_t most_ = 0;           // steps
  std::vector<double> start_;  // (p)
  std::vector<double> basis_;  // (steps, p), orthonormal rows
  Tridiagonal matrix_;
  int exponent_ = 0;  // the matrix and what follows from it are scaled by 2^-exponent
  double largest_ = 0, residual_ = 0;
  bool done_ = false;
};

// Device::curvature_each as a plain loop over a device's own products.
template <class T>
class PlainCurvatures {
 public:
  using Quadratic = double (*)(const QuadraticArgs<T>&, double*);
  explicit PlainCurvatures(Quadratic quadratic) : quadratic_(quadratic) {}

  void run(const CurvatureArgs& args) {
    packed_.unpack(args.p, args.t, args.quadratic);
    direction_.resize(static_cast<size_t>(args.p));
    image_.resize(2 * direction_.size());
    lanczos_.restart(args.p);
    while (!lanczos_.done()) {
      for (int64_t i = 0; i < args.p; ++i) direction_[i] = static_cast<T>(lanczos_.direction()[i]);
      quadratic_(packed_.at(args.t, direction_.data(), 1), image_.data());
      lanczos_.step(image_.data());
    }
    *args.largest = lanczos_.largest();
    *args.residual = lanczos_.residual();
  }

 private:
  Quadratic quadratic_;
  PackedQuadratic<T> packed_;
  Lanczos lanczos_;
  std::vector<T> direction_;
  std::vector<double> image_;
};

}  // namespace gdcore
