// What the host computes itself, wherever the arrays of a problem are.
#pragma once

#include <type_traits>

#include "device.hpp"
#include "quadratic.hpp"

namespace gdcore::host {

template <class T>
void accurate(const AccurateArgs<T>& args);

// Half the gradient, G w - c, in the first p of 2 p entries; returns the sum of squares.
template <class T>
double quadratic(const QuadraticArgs<T>& args, double* gradient);

// body(context) on each of the threads that are worth starting for `tasks` tasks of `work` in all.
void run_on_threads(int64_t tasks, int64_t work, void (*body)(void*), void* context);

template <class Body>
void on_threads(int64_t tasks, int64_t work, Body&& body) {
  run_on_threads(
      tasks, work, [](void* context) { (*static_cast<std::remove_reference_t<Body>*>(context))(); },
      &body);
}

}  // namespace gdcore::host
