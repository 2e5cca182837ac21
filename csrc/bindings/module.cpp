// Table of contents of gdcore._core.
#include "bindings/register.hpp"

PYBIND11_MODULE(_core, m, pybind11::mod_gil_not_used()) {
  m.doc() = "Kernels and fitting loops of gdcore; the public API is the package gdcore.";
  gdcore::register_config(m);
  gdcore::register_kernels(m);
  gdcore::register_fit(m);
  gdcore::register_many(m);
  gdcore::register_lost_pages(m);
  gdcore::register_probe(m);
}
