// Rows by their labels.
#include "cpu/groups.hpp"

#include <pybind11/stl.h>

#include "bindings/arrays.hpp"
#include "bindings/register.hpp"
#include "cpu/threads.hpp"

namespace gdcore {
namespace {

// starts (groups+1) and the order of the rows; None for it if the rows are already grouped.
py::tuple rows_of_groups(const py::array_t<int64_t, py::array::c_style>& labels, int64_t low,
                         int64_t groups, int n_threads) {
  const ThreadScope scope(n_threads);
  if (groups < 1)
    throw py::value_error("groups is " + std::to_string(groups) + "; it must be 1 or larger.");
  py::array_t<int64_t> starts(groups + 1), order(labels.size());
  int64_t *const s = starts.mutable_data(), *const o = order.mutable_data();
  const int64_t* const l = labels.data();
  const Grouping done = compute([&] { return rows_by_group(l, labels.size(), low, groups, s, o); });
  if (done == Grouping::outside) throw py::value_error("a label is not one of the groups.");
  if (done == Grouping::in_place) return py::make_tuple(starts, py::none());
  return py::make_tuple(starts, order);
}

}  // namespace

void register_groups(py::module_& m) {
  m.def("rows_by_group", &rows_of_groups, py::arg("labels"), py::arg("low"), py::arg("groups"),
        py::arg("n_threads"));
}

}  // namespace gdcore
