#include <pybind11/stl.h>

#include <cstdlib>
#include <optional>

#include "bindings/register.hpp"
#include "contract.hpp"
#include "cpu/dispatch.hpp"
#include "cpu/threads.hpp"
#include "cuda/info.hpp"
#include "fp_env.hpp"

namespace py = pybind11;
using namespace py::literals;

namespace gdcore {
namespace {

// A context manager that sets the contract's floating-point mode, for sums in Python.
class PyFpEnv {
 public:
  void enter() { env_.emplace(); }
  void exit(py::handle, py::handle, py::handle) { env_.reset(); }

 private:
  std::optional<FpEnv> env_;
};

// The GPUs, the driver and the kernels; or the sentence that says why there are none.
py::object cuda_info() {
  cuda::Info info;
  {
    const py::gil_scoped_release release;
    info = cuda::info();
  }
  if (!info.reason.empty()) return py::str(info.reason);
  py::list devices;
  for (const auto& [properties, architecture] : info.devices) {
    devices.append(py::dict("name"_a = properties.name, "sm"_a = properties.sm,
                            "memory"_a = properties.memory, "kernels"_a = architecture));
  }
  const py::dict fatbin("path"_a = info.fatbin, "bytes"_a = info.fatbin_bytes,
                        "architectures"_a = info.architectures);
  return py::dict("driver"_a = info.driver, "devices"_a = devices, "fatbin"_a = fatbin);
}

}  // namespace

void register_config(py::module_& m) {
  const char* forced = std::getenv("GDCORE_ISA");
  choose_isa(forced ? forced : available_isas().back());
  thread_limit();  // before other code narrows this thread's CPUs

  m.attr("VERSION") = GDCORE_VERSION;
  m.attr("COMPILER") = GDCORE_COMPILER;
  py::dict segment;
  segment["float32"] = L<float>;
  segment["float64"] = L<double>;
  m.attr("SEGMENT") = segment;
  m.attr("FAN_IN") = fan_in;
  m.attr("NUMERICS") = numerics_version;

  py::class_<PyFpEnv>(m, "FpEnv")
      .def(py::init<>())
      .def("__enter__", &PyFpEnv::enter)
      .def("__exit__", &PyFpEnv::exit);
  m.def("built_isas", &built_isas);
  m.def("available_isas", &available_isas);
  m.def("get_isa", &chosen_isa);
  m.def("set_isa", &choose_isa);
  m.def("get_num_threads", &num_threads);
  m.def("threads_reason", [] { return thread_limit().reason; });
  m.def("set_num_threads", &set_num_threads);
  m.def("thread_engine", &thread_engine);
  m.def("let_everyone_take_part", &let_everyone_take_part, "choice"_a);
  m.def("cuda_info", &cuda_info);
}

}  // namespace gdcore
