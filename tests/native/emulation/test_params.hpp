#pragma once

#include <cstdint>

struct AddParams {
  const float* in;
  float* out;
  int64_t n;
  float summand;
};
