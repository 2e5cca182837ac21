// An array on a CUDA device that belongs to no other library: what gdcore's Python code sees of
// the caller's arrays there, and what it uploads.
#pragma once

#include "bindings/array.hpp"

namespace gdcore {

struct DeviceArray {
  Array array;
};

// C-contiguous memory of the device, not filled, which is freed in the order of the place's stream.
// `stream_owner` keeps that stream alive.
Array empty_on_device(const Dims& shape, bool single, const cuda::Place& place,
                      py::object stream_owner = {});

// Copies of arrays: to the device in the order of `to`'s stream, both contiguous; and to a new
// NumPy array, once all earlier work on the array's stream is done.
void upload(const py::array& from, const Array& to);
py::array download(const Array& a);
// Between arrays of one shape on one device, in the order of the stream of `from`.
void copy_on_device(const Array& from, const Array& to);
// A 0-d array, without a read of the host's memory: a graph can replay it.
Array number_on_device(double value, bool single, const cuda::Place& place);
// The array itself if it is C-contiguous, else such a copy.
Array dense_on_device(const Array& a);

}  // namespace gdcore
