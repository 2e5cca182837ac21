// Table of contents of gdcore._core.
#include "bindings/register.hpp"

PYBIND11_MODULE(_core, m, pybind11::mod_gil_not_used()) {
  m.doc() = "Kernels and fitting loops of gdcore; the public API is the package gdcore.";
  gdcore::register_config(m);
  gdcore::register_arrays(m);
  gdcore::register_device_array(m);
  gdcore::register_matmul(m);
  gdcore::register_mse(m);
  gdcore::register_linear(m);
  gdcore::register_options(m);
  gdcore::register_problem(m);
  gdcore::register_moments(m);
  gdcore::register_scaling(m);
  gdcore::register_curvature(m);
  gdcore::register_outlook(m);
  gdcore::register_descent(m);
  gdcore::register_inference(m);
  gdcore::register_exact(m);
  gdcore::register_rolling(m);
  gdcore::register_many(m);
  gdcore::register_groups(m);
  gdcore::register_row_ids(m);
  gdcore::register_sgd(m);
  gdcore::register_shuffle(m);
  gdcore::register_lost_pages(m);
  gdcore::register_probe(m);
}
