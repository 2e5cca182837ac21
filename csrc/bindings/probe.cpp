#include "cpu/probe.hpp"

#include <pybind11/pybind11.h>

#include <cmath>
#include <string>

#include "bindings/register.hpp"

namespace py = pybind11;

namespace gdcore {
namespace {

void check(const char* function, int threads, double seconds) {
  const std::string name(function);
  if (threads < 1 || threads > 1024)
    throw py::value_error(name + ": threads is " + std::to_string(threads) +
                          "; give a number from 1 to 1024.");
  if (!(std::isfinite(seconds) && seconds > 0))
    throw py::value_error(name + ": seconds is " + std::to_string(seconds) +
                          "; give a positive number, for example 0.2.");
}

Traffic traffic_of(const std::string& kind) {
  if (kind == "read") return Traffic::read;
  if (kind == "write") return Traffic::write;
  if (kind == "copy") return Traffic::copy;
  throw py::value_error("probe_bandwidth: kind is '" + kind +
                        "'; choose 'read', 'write' or 'copy'.");
}

double fma(bool single, int threads, double seconds) {
  check("probe_fma", threads, seconds);
  py::gil_scoped_release release;
  return single ? probe_fma<float>(threads, seconds) : probe_fma<double>(threads, seconds);
}

double bandwidth(const std::string& kind, int64_t bytes, int threads, double seconds) {
  const Traffic traffic = traffic_of(kind);
  check("probe_bandwidth", threads, seconds);
  if (bytes < 1)
    throw py::value_error("probe_bandwidth: bytes is " + std::to_string(bytes) +
                          "; give the size of the memory to run over, at least 1.");
  py::gil_scoped_release release;
  return probe_bandwidth(traffic, bytes, threads, seconds);
}

}  // namespace

void register_probe(py::module_& m) {
  m.def("probe_fma", &fma, py::arg("single"), py::arg("threads"), py::arg("seconds"));
  m.def("probe_bandwidth", &bandwidth, py::arg("kind"), py::arg("bytes"), py::arg("threads"),
        py::arg("seconds"));
}

}  // namespace gdcore
