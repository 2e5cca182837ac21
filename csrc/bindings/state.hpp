// The state of a descent as a dictionary, and names of its outcomes.
#pragma once

#include "bindings/arrays.hpp"
#include "fit/state.hpp"

namespace gdcore {

// ValueError if the state's sizes are not those of the problem.
template <class T>
DescentState<T> state_from(const Problem<T>& problem, const py::dict& dict);

template <class T>
py::dict dict_from(const DescentState<T>& state);

const char* name_of(Outcome outcome);

}  // namespace gdcore
