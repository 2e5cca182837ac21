// What a least-squares solution says of the uncertainty of its weights: their covariance, the
// variance of the errors, R^2.
#pragma once

#include <vector>

#include "fit/residual_pass.hpp"

namespace gdcore {

// Why there is no covariance.
enum class Flaw : uint8_t {
  none,
  singular,    // the columns are dependent
  no_freedom,  // no more rows than parameters
  leverage,    // hc2 and hc3: a row determines a parameter alone
  not_solved,  // or with weight decay
};

// Where the results of one problem are written: (t,p,p), (t), (t) and one each.
struct InferenceView {
  double *covariance, *sigma2, *r2;
  int64_t* df_resid;
  Flaw* flaw;
};

// The results of many problems: NaN until they are written.
class Inferences {
 public:
  void reset(int64_t count, int64_t p, int64_t t);
  InferenceView at(int64_t i);

  std::vector<double> covariance, sigma2, r2;  // (count,t,p,p), (count,t), (count,t)
  std::vector<int64_t> df_resid;
  std::vector<Flaw> flaw;

 private:
  int64_t p_ = 0, t_ = 0;
};

template <class T>
class Inference {
 public:
  Inference() = default;
  Inference(const Inference&) = delete;

  // Fill in what is known, then begin().
  LeastSquares solved;

  void begin(Covariance kind);
  bool needs_rows() const;
  // These rows are next. All rows but the last given are a multiple of 512.
  void begin_rows(const Problem<T>& rows) { pass_.begin(rows); }
  bool run(Budget& budget) { return pass_.run(budget); }  // true when they are in
  bool advance(double seconds);

  void write(const InferenceView& to);  // once, when all rows are in

 private:
  void take_squares();
  Flaw flaw() const;
  void write_ols(double sigma2, double* to) const;
  void write_sandwich(int64_t u, double* to);
  template <class Entry>
  void write_symmetric(double* to, Entry&& entry) const;

  Covariance kind_ = Covariance::none;
  ResidualPass<T> pass_;
  std::vector<double> meat_, half_;  // (p,p): M, C M
};

}  // namespace gdcore
