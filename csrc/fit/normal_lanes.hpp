// Closed forms of eight problems at a time, each with the bits of NormalEquations.
#pragma once

#include <vector>

#include "fit/pivoted_qr.hpp"
#include "fit/problem.hpp"

namespace gdcore {

template <class T>
class NormalLanes {
 public:
  static constexpr int lanes = 8;
  // Whether it may solve problems of this size with these options, but for the weight decay.
  static bool serve(const Problem<T>& size, const ExactOptions& options);

  NormalLanes(const Problem<T>& size, const ExactOptions& options);
  // What `Quadratic` packs of the rows of one problem, the divisor of its loss and its decay.
  void load(int lane, const double* packed, double divisor, double weight_decay);
  // A bit for each lane that NormalEquations solves, and whose loss it knows.
  unsigned solve();
  void write(int lane, T* params, T* loss) const;

 private:
  typedef double Eight __attribute__((vector_size(lanes * sizeof(double))));

  Eight& at(int64_t i, int64_t j) { return a_[i * (p_ + 1) + j]; }
  unsigned factorise();
  Eight squares_of_inverse();
  unsigned substitute();
  unsigned measure();

  int64_t p_, penalised_;
  std::vector<Eight> G_, c_;      // upper triangle, right sides and the squares of y
  std::vector<Eight> a_, scale_;  // as in NormalEquations: (p, p + 1), (p)
  std::vector<Eight> params_, inverse_;
  Eight divisor_{}, penalty_{}, squares_{};
};

}  // namespace gdcore
