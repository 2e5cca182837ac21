#include "fit/least_squares.hpp"

namespace gdcore {

// By rows: each entry is a chain from the diagonal on.
void invert(int64_t p, const double* r, int64_t width, double* inverse) {
  for (int64_t i = 0; i < p; ++i) {
    double* const row = inverse + i * p;
    for (int64_t j = 0; j < p; ++j) row[j] = j == i ? 1 : 0;
    for (int64_t j = i; j < p; ++j) {
      row[j] /= r[j * width + j];
      for (int64_t k = j + 1; k < p; ++k) row[k] -= row[j] * r[j * width + k];
    }
  }
}

}  // namespace gdcore
