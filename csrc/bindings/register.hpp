// One function per noun, each in the file of that name; module.cpp calls them.
#pragma once

#include <pybind11/pybind11.h>

namespace gdcore {

void register_arrays(pybind11::module_& m);
void register_config(pybind11::module_& m);
void register_curvature(pybind11::module_& m);
void register_descent(pybind11::module_& m);
void register_device_array(pybind11::module_& m);
void register_exact(pybind11::module_& m);
void register_groups(pybind11::module_& m);
void register_inference(pybind11::module_& m);
void register_linear(pybind11::module_& m);
void register_lost_pages(pybind11::module_& m);
void register_many(pybind11::module_& m);
void register_matmul(pybind11::module_& m);
void register_moments(pybind11::module_& m);
void register_mse(pybind11::module_& m);
void register_options(pybind11::module_& m);
void register_outlook(pybind11::module_& m);
void register_probe(pybind11::module_& m);
void register_problem(pybind11::module_& m);
void register_rolling(pybind11::module_& m);
void register_row_ids(pybind11::module_& m);
void register_scaling(pybind11::module_& m);
void register_sgd(pybind11::module_& m);
void register_shuffle(pybind11::module_& m);

}  // namespace gdcore
