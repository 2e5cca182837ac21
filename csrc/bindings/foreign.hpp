// Arrays of other libraries: read without a copy through DLPack, or __cuda_array_interface__.
#pragma once

#include "bindings/array.hpp"
#include "bindings/dlpack.hpp"

namespace gdcore {

// Where and how the results of a call are made: in the library and the memory of the first operand
// that is not NumPy's.
struct Home {
  py::handle like;                   // that operand; null: results are NumPy arrays
  const dlpack::Api* api = nullptr;  // its library's table of C functions, if it has one
  const char* on_device = nullptr;   // the name of the first operand on a CUDA device
  Where where;                       // of all operands; its stream is the caller's current one
};

// Reads `value` if it is an array of another library that kernels can read as it is. False for
// anything that NumPy has to convert. Sets `home` by the first such operand. Later operands are
// ordered behind the work of their own streams. TypeError or ValueError for an array on a device
// that cannot be used, or of a dtype that would have to be converted there.
bool read_foreign(const char* name, py::handle value, Array& array, Home& home);

// Tells torch's autograd that a tensor was written, as torch's own operations in place do: a graph
// that needs the old numbers is an error then. Other arrays are left alone.
void tell_of_write(py::handle value);

// The from_dlpack of the value's library, or null if it has none.
py::object importer_of(py::handle value);
// The object that keeps the current stream of the value's library alive, or null.
py::object stream_owner(py::handle value);

}  // namespace gdcore
