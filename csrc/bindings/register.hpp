// One function per noun, each in the file of that name; module.cpp calls them.
#pragma once

#include <pybind11/pybind11.h>

namespace gdcore {

void register_config(pybind11::module_& m);
void register_kernels(pybind11::module_& m);
void register_fit(pybind11::module_& m);
void register_many(pybind11::module_& m);
void register_lost_pages(pybind11::module_& m);
void register_probe(pybind11::module_& m);

}  // namespace gdcore
