// What the checks of the CUDA device share: data, memory of the device, comparisons.
#pragma once

#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

#include "cuda/driver.hpp"
#include "cuda/operations.hpp"
#include "reference/reference.hpp"

namespace gdcore::check {

inline int cases = 0, failures = 0;
inline bool few = false;  // some cases of each kind: a sanitizer takes its time

// Whether the next case is left out. Each function that makes one asks first.
inline bool is_skipped(int every = 11) {
  static int asked = 0;
  return few && asked++ % every != 0;
}

// One case: prints what failed.
inline void expect(bool ok, const char* format, ...) __attribute__((format(printf, 2, 3)));
inline void expect(bool ok, const char* format, ...) {
  ++cases;
  if (ok) return;
  ++failures;
  va_list arguments;
  va_start(arguments, format);
  std::vprintf(format, arguments);
  va_end(arguments);
  std::printf("\n");
}

// Numbers of many sizes.
template <class T>
std::vector<T> draw(int64_t n, unsigned seed, int spread = 24) {
  std::mt19937_64 random(seed);
  std::vector<T> v(static_cast<size_t>(n));
  for (T& x : v) {
    const double unit = static_cast<double>(random() >> 11) * 0x1p-53 - 0.5;
    x = static_cast<T>(std::ldexp(unit, static_cast<int>(random() % spread) - spread / 2));
  }
  return v;
}

// The same bits, or both a NaN.
template <class T>
bool same(T a, T b) {
  return (a != a && b != b) || std::memcmp(&a, &b, sizeof a) == 0;
}
template <class T>
bool same(const std::vector<T>& a, const std::vector<T>& b) {
  bool all = a.size() == b.size();
  for (size_t i = 0; all && i < a.size(); ++i) all = same(a[i], b[i]);
  return all;
}

// A copy of an array on the device.
template <class T>
struct OnDevice {
  cuda::Memory memory;
  int64_t size;

  explicit OnDevice(const std::vector<T>& from)
      : memory(from.size() * sizeof(T)), size(static_cast<int64_t>(from.size())) {
    cuda::copy_to_device(memory.as<void>(), from.data(), from.size() * sizeof(T));
    cuda::synchronize();  // operations for fits read it on a stream of their own
  }
  T* data() const { return memory.as<T>(); }
  std::vector<T> host() const {
    std::vector<T> to(static_cast<size_t>(size));
    cuda::copy_to_host(to.data(), memory.as<void>(), to.size() * sizeof(T));
    cuda::synchronize();
    return to;
  }
};

void products();  // matmul, mse, sgd
void rows();      // linear, linear_each, moments, moments_each, fetch
void descents();  // descend_each

}  // namespace gdcore::check
