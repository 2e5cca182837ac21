// The order of shuffled rows.
#include "shuffle.hpp"

#include <pybind11/stl.h>

#include <array>

#include "bindings/arrays.hpp"
#include "bindings/register.hpp"

namespace gdcore {
namespace {

std::array<uint32_t, 4> philox_words(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  PhiloxWords words{};
  for (size_t i = 0; i < 4; ++i) words.at[i] = counter[i];
  words = philox(words, key[0], key[1]);
  return {words.at[0], words.at[1], words.at[2], words.at[3]};
}

py::array_t<int64_t> permutation(int64_t n, uint64_t seed, uint64_t epoch) {
  if (n < 0) throw py::value_error("n is " + std::to_string(n) + "; it must be 0 or larger.");
  const Permutation order(n, seed, epoch);
  py::array_t<int64_t> out(n);
  for (int64_t i = 0; i < n; ++i) out.mutable_data()[i] = order(i);
  return out;
}

}  // namespace

void register_shuffle(py::module_& m) {
  m.def("philox", &philox_words, py::arg("counter"), py::arg("key"));
  m.def("permutation", &permutation, py::arg("n"), py::arg("seed"), py::arg("epoch"));
}

}  // namespace gdcore
