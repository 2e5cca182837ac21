// Operands in. Dtypes, shapes and strides are checked here and nowhere below.
// A valid call allocates only its result, and error messages are formed where they are thrown:
// on small arrays such overhead is most of a call's time.
#pragma once

#include <array>
#include <string>
#include <utility>
#include <vector>

#include "bindings/array.hpp"
#include "bindings/foreign.hpp"
#include "contract.hpp"
#include "fp_env.hpp"

namespace gdcore {

struct Named {
  const char* name;
  py::handle value;
  bool optional = false;  // may be None: an absent array
};

// Reads `count` operands as arrays of one dtype, float32 (returns true) or float64, that kernels
// can read. Those are not copied. Python numbers take the dtype and the place of the other
// operands. TypeError for an operand without a floating value; ValueError for two devices.
bool as_floats(const Named* named, size_t count, Array* arrays, Home& home);

template <size_t N>
struct Operands {
  std::array<Array, N> arrays;
  Home home;
  bool single;  // float32

  bool present(size_t i) const { return static_cast<bool>(arrays[i]); }
};

template <size_t N>
Operands<N> as_floats(const Named (&named)[N]) {
  Operands<N> in;
  in.single = as_floats(named, N, in.arrays.data(), in.home);
  return in;
}

// Makes `batch` the shape that both broadcast to, by NumPy's rule; false if they do not.
bool broadcast(Dims& batch, const Dims& shape);
constexpr const char* broadcast_rule =
    " the batch dimensions do not broadcast: counted from the right, each must be 1 or equal to "
    "the others.";

// Strides of an operand's leading dimensions (all but the last `core`) in the broadcast batch.
Dims batch_strides(const Dims& shape, const Dims& strides, size_t core, const Dims& batch);

Reduction reduction_of(py::handle name, bool none_allowed = false);
bool is_mean(Reduction reduction);

// An array that `prepare` made: NumPy's or a DeviceArray. Absent for None; ValueError for others.
Array prepared(py::handle value);

// Runs f without the GIL. The caller holds an FpEnv, which also covers conversions.
template <class F>
auto compute(F&& f) {
  py::gil_scoped_release release;
  return f();
}

// The same for about `work` fma or elements. Releasing the GIL costs more than a small call takes.
template <class F>
auto compute(double work, F&& f) {
  constexpr double worth_release = 1 << 13;
  return work < worth_release ? f() : compute(f);
}

// Calls f with the device for arrays of this place; on a GPU, where nobody waits for it.
template <class T, class F>
void compute_on(const Where& where, double work, F&& f) {
  if (!where.on_device) {
    compute(work, [&] { f(host_device<T>()); });
    return;
  }
  compute([&] {
    const cuda::Scope scope(where.place);
    f(cuda_device<T>());
  });
}

// Calls f(float{}) if single, else f(double{}).
template <class F>
auto dispatch(bool single, F&& f) {
  return single ? f(float{}) : f(double{});
}

}  // namespace gdcore
