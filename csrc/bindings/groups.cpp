// Rows by their labels.
#include "cpu/groups.hpp"

#include <pybind11/stl.h>

#include "bindings/arrays.hpp"
#include "bindings/problem.hpp"
#include "bindings/register.hpp"
#include "bindings/vectors.hpp"
#include "cpu/dispatch.hpp"
#include "cpu/threads.hpp"

namespace gdcore {
namespace {

using Labels = py::array_t<int64_t, py::array::c_style>;

// Those of the labels that occur, less low (None: all of them), and their rows.
py::tuple rows_by_label_of(const Labels& labels, int64_t low, int64_t span) {
  if (span < 1)
    throw py::value_error("span is " + std::to_string(span) + "; it must be 1 or larger.");
  const int64_t* const l = labels.data();
  const LabelledRows found = compute([&] { return rows_by_label(l, labels.size(), low, span); });
  if (!found.rows) throw py::value_error("a label is not one of the groups.");
  py::object occur = py::none();
  if (!found.labels.empty()) occur = copy_of(found.labels);
  return py::make_tuple(occur, found.rows);
}

// Labels that are far apart, each once, in the order in which they first come.
class DifferentLabels {
 public:
  explicit DifferentLabels(const Labels& labels) : rows_(labels.size()) {
    if (rows_ > most_groups) throw py::value_error("there are 2**32 - 1 rows or more.");
    const int64_t* const l = labels.data();
    found_ = compute([&] { return ids_of_labels(l, rows_); });
  }
  py::array labels() const { return copy_of(found_.labels); }
  // The rows by the rank of their labels; once.
  std::shared_ptr<GroupedRows> rows(const py::array_t<uint32_t, py::array::c_style>& rank) {
    const auto groups = static_cast<int64_t>(found_.labels.size());
    if (rank.size() != groups || !found_.ids)
      throw py::value_error("rank must have one entry for each label.");
    const uint32_t* const r = rank.data();
    for (int64_t g = 0; g < groups; ++g)
      if (r[g] >= groups) throw py::value_error("a rank is not one of the labels'.");
    return compute([&] { return rows_by_rank(std::move(found_.ids), rows_, r, groups); });
  }

 private:
  int64_t rows_;
  LabelIds found_;
};

// The row numbers by group; None in place.
py::object order_of(const GroupedRows& rows, int n_threads) {
  if (rows.in_place()) return py::none();
  const ThreadScope scope(n_threads);
  const int64_t* const order = compute([&] { return rows.order(); });
  return py::array_t<int64_t>(rows.rows(), order, py::cast(rows));
}

py::array_t<int64_t> first_rows_of(const GroupedRows& rows) {
  py::array_t<int64_t> first(rows.groups());
  int64_t* const out = first.mutable_data();
  compute([&] { rows.first_rows(out); });
  return first;
}

py::array rows_of_some(const GroupedRows& rows,
                       const py::array_t<uint8_t, py::array::c_style>& wanted) {
  if (wanted.size() != rows.groups() || rows.in_place())
    throw py::value_error("wanted must have one entry for each group of rows that are anywhere.");
  const uint8_t* const w = wanted.data();
  return copy_of(compute([&] { return rows.order_of_some(w); }));
}

// Second moments of all groups, of no rows yet; None where only sorted rows give them.
std::shared_ptr<GroupSums> sums_of(const PyProblems& problems) {
  if (!problems.single() || reference_chosen()) return nullptr;
  const ManyRows<float>& rows = problems.as<float>();
  const Problem<float>& all = rows.all;
  const bool plain = all.device->of_host && !all.offset.data && !all.sample_weight.data;
  if (!plain || !rows.groups || rows.count == 0 || !GroupSums::serve(all.d, all.t)) return nullptr;
  return std::make_shared<GroupSums>(all.X, all.y, all.d, rows.groups);
}

bool advance_sums(GroupSums& sums, double seconds, int n_threads) {
  const ThreadScope scope(n_threads);
  return compute([&] { return sums.advance(seconds); });
}

}  // namespace

void register_groups(py::module_& m) {
  py::class_<GroupedRows, std::shared_ptr<GroupedRows>>(m, "GroupedRows")
      .def_property_readonly("starts",
                             [](const GroupedRows& rows) { return copy_of(rows.starts()); })
      .def_property_readonly("in_place", &GroupedRows::in_place)
      .def("order", &order_of, py::arg("n_threads"))
      .def("first_rows", &first_rows_of)
      .def("order_of_some", &rows_of_some, py::arg("wanted"));
  py::class_<DifferentLabels>(m, "DifferentLabels")
      .def(py::init<const Labels&>(), py::arg("labels"))
      .def("labels", &DifferentLabels::labels)
      .def("rows", &DifferentLabels::rows, py::arg("rank"));
  py::class_<GroupSums, std::shared_ptr<GroupSums>>(m, "GroupSums")
      .def("advance", &advance_sums, py::arg("seconds"), py::arg("n_threads"));
  m.def("rows_by_label", &rows_by_label_of, py::arg("labels"), py::arg("low"), py::arg("span"));
  m.def("group_sums", &sums_of, py::keep_alive<0, 1>(), py::arg("problems"));
}

}  // namespace gdcore
