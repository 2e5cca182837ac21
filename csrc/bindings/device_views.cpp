#include "bindings/device_views.hpp"

#include <algorithm>

#include "bindings/arrays.hpp"

namespace gdcore {
namespace {

// A view under construction: dimensions of the array are taken in turn, from the first on.
class View {
 public:
  explicit View(const Array& whole) : whole_(whole), view_(whole) {
    view_.shape.clear();
    view_.strides.clear();
  }
  void keep() {
    add(whole_.shape[next_], whole_.strides[next_]);
    ++next_;
  }
  void keep_but(size_t last) {
    while (next_ + last < whole_.shape.size()) keep();
  }
  void insert() { add(1, 0); }
  void pick(py::handle index) {
    const int64_t size = whole_.shape[next_];
    const Py_ssize_t given = PyNumber_AsSsize_t(index.ptr(), PyExc_IndexError);
    if (given == -1 && PyErr_Occurred()) throw py::error_already_set();
    const int64_t at = given < 0 ? given + size : given;
    if (at < 0 || at >= size)
      throw py::index_error("index " + std::to_string(given) + " is outside dimension " +
                            std::to_string(next_) + ", which has size " + std::to_string(size) +
                            ".");
    move(at * whole_.strides[next_++]);
  }
  void slice(py::handle index) {
    Py_ssize_t start, stop, step;
    if (PySlice_Unpack(index.ptr(), &start, &stop, &step) != 0) throw py::error_already_set();
    const Py_ssize_t size = PySlice_AdjustIndices(whole_.shape[next_], &start, &stop, step);
    const int64_t stride = whole_.strides[next_++];
    if (size > 0) move(start * stride);
    add(size, size > 1 ? step * stride : stride);
  }
  const Array& array() const { return view_; }

 private:
  void add(int64_t size, int64_t stride) {
    view_.shape.push_back(size);
    view_.strides.push_back(stride);
  }
  void move(int64_t elements) {
    view_.data = static_cast<char*>(view_.data) + elements * static_cast<int64_t>(view_.itemsize());
  }

  const Array& whole_;
  Array view_;
  size_t next_ = 0;
};

bool is_integer(py::handle part) {
  const bool is_list = py::isinstance<py::array>(part) && py::len(part.attr("shape")) > 0;
  return PyIndex_Check(part.ptr()) && !PyBool_Check(part.ptr()) && !is_list;
}

}  // namespace

Array view_at(const Array& a, const py::object& index) {
  const py::tuple parts =
      py::isinstance<py::tuple>(index) ? index.cast<py::tuple>() : py::make_tuple(index);
  size_t dims = 0, ellipses = 0;
  for (const py::handle part : parts) {
    const bool is_dim = py::isinstance<py::slice>(part) || is_integer(part);
    const bool is_ellipsis = py::isinstance<py::ellipsis>(part);
    if (!is_dim && !is_ellipsis && !part.is_none())
      throw py::index_error(
          "an array on a CUDA device takes integers, slices, None and ... as indices.");
    dims += is_dim;
    ellipses += is_ellipsis;
  }
  if (ellipses > 1) throw py::index_error("an index has at most one '...'.");
  if (dims > a.shape.size())
    throw py::index_error("the index is of " + std::to_string(dims) +
                          " dimensions and the array has " + std::to_string(a.shape.size()) + ".");
  View view(a);
  for (const py::handle part : parts) {
    if (part.is_none()) {
      view.insert();
    } else if (py::isinstance<py::ellipsis>(part)) {
      view.keep_but(dims);
    } else {
      --dims;
      if (py::isinstance<py::slice>(part))
        view.slice(part);
      else
        view.pick(part);
    }
  }
  view.keep_but(0);
  return view.array();
}

Array view_of_shape(const Array& a, const Dims& shape) {
  Dims common = shape;
  bool fits = a.shape.size() <= shape.size() && broadcast(common, a.shape) && common == shape;
  for (const int64_t size : shape) fits = fits && size >= 0;
  if (!fits)
    throw py::value_error("an array of shape " + text(a.shape) + " does not broadcast to " +
                          text(shape) + ".");
  Array view = a;
  view.shape = shape;
  view.strides = batch_strides(a.shape, a.strides, 0, shape);
  return view;
}

Array transposed(const Array& a) {
  Array view = a;
  std::reverse(&view.shape[0], &view.shape[0] + view.shape.size());
  std::reverse(&view.strides[0], &view.strides[0] + view.strides.size());
  return view;
}

}  // namespace gdcore
