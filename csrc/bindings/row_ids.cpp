// Labels that are rows of bytes, or Python's texts, to ids.
#include "cpu/row_ids.hpp"

#include "bindings/arrays.hpp"
#include "bindings/register.hpp"

namespace gdcore {
namespace {

// An id for each row of bytes (rows, width).
py::array_t<int64_t> row_ids(const py::array_t<unsigned char, py::array::c_style>& bytes) {
  if (bytes.ndim() != 2 || bytes.shape(0) > most_rows_with_ids)
    throw py::value_error("bytes must have two dimensions and fewer than 2**32 - 1 rows.");
  const int64_t rows = bytes.shape(0), width = bytes.shape(1);
  py::array_t<int64_t> ids(rows);
  int64_t* const out = ids.mutable_data();
  const unsigned char* const in = bytes.data();
  compute(
      [&] { ids_of([=](int64_t i) { return RowBytes{in + i * width, width, 0}; }, rows, out); });
  return ids;
}

PyObject* const* objects_of(const py::array& array) {
  if (array.dtype().kind() != 'O' || array.ndim() != 1 || !(array.flags() & py::array::c_style))
    throw py::type_error("the labels must be a contiguous array of objects.");
  return static_cast<PyObject* const*>(array.data());
}

// Whether all are texts, and none of a subclass, which may have its own equality.
bool holds_text(const py::array& array) {
  PyObject* const* const objects = objects_of(array);
  return std::all_of(objects, objects + array.size(),
                     [](PyObject* each) { return each && PyUnicode_CheckExact(each); });
}

// Equal texts have one kind: their characters have 1, 2 or 4 bytes, as the largest one needs.
RowBytes bytes_of(PyObject* text) {
  const int kind = PyUnicode_KIND(text);
  return {static_cast<const unsigned char*>(PyUnicode_DATA(text)),
          static_cast<int64_t>(PyUnicode_GET_LENGTH(text)) * kind, kind};
}

// An id for each text; None if there is anything else. The interpreter waits: the texts are its.
py::object text_ids(const py::array& array) {
  if (array.size() > most_rows_with_ids || !holds_text(array)) return py::none();
  PyObject* const* const objects = objects_of(array);
  py::array_t<int64_t> ids(array.size());
  ids_of([=](int64_t i) { return bytes_of(objects[i]); }, array.size(), ids.mutable_data());
  return std::move(ids);
}

}  // namespace

void register_row_ids(py::module_& m) {
  m.def("row_ids", &row_ids, py::arg("bytes"));
  m.def("text_ids", &text_ids, py::arg("objects"));
  m.def("holds_text", &holds_text, py::arg("objects"));
}

}  // namespace gdcore
