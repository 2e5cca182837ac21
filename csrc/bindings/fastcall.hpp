// Functions with positional arguments only, without pybind11's dispatch: a small kernel takes less
// time than choosing an overload.
#pragma once

#include <pybind11/pybind11.h>

#include <utility>

namespace gdcore {

template <auto function, size_t... I>
PyObject* call_each(PyObject* const* args, std::index_sequence<I...>) {
  return function(pybind11::handle(args[I])...).release().ptr();
}

template <auto function, size_t count>
PyObject* fastcall(PyObject*, PyObject* const* args, Py_ssize_t given) {
  if (given != static_cast<Py_ssize_t>(count))
    return PyErr_Format(PyExc_TypeError, "%zu arguments are needed, but %zd were given", count,
                        given);
  try {
    return call_each<function>(args, std::make_index_sequence<count>());
  } catch (pybind11::error_already_set& error) {
    error.restore();
  } catch (...) {
    pybind11::detail::try_translate_exceptions();
  }
  return nullptr;
}

template <auto function, class Result, class... Handles>
PyMethodDef fast_method(const char* name, Result (*)(Handles...)) {
  const auto call = fastcall<function, sizeof...(Handles)>;
  return {name, reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(call)), METH_FASTCALL,
          nullptr};
}

// A row of a module's table of methods.
template <auto function>
PyMethodDef fast_method(const char* name) {
  return fast_method<function>(name, function);
}

}  // namespace gdcore
