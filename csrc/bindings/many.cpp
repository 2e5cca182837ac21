#include <pybind11/stl.h>

#include <optional>
#include <variant>

#include "bindings/arrays.hpp"
#include "bindings/register.hpp"
#include "bindings/vectors.hpp"
#include "cpu/groups.hpp"
#include "cpu/parallel.hpp"
#include "fit/many.hpp"

namespace gdcore {
namespace {

// Many problems and the arrays they look at. Either X (count,n,d), y (count,n,t), offset
// (count,n,t), sample_weight (count,n); or X (rows,d), y (rows,t), offset (rows,t), sample_weight
// (rows) with starts (count+1) and perhaps order (rows).
class PyMany {
  template <class F>
  auto visit(F&& f) {
    return std::visit([&](auto& m) { return f(*m); }, many_);
  }

 public:
  PyMany(const py::array& X, const py::array& y, const std::optional<py::array>& offset,
         const std::optional<py::array>& sample_weight, bool fit_intercept,
         const py::object& reduction, const std::optional<py::array_t<int64_t>>& starts,
         const std::optional<py::array_t<int64_t>>& order, const py::object& gram, bool judged,
         bool scaled)
      : arrays_{X, y, offset.value_or(py::array()), sample_weight.value_or(py::array())},
        starts_(starts.value_or(py::array_t<int64_t>())),
        order_(order.value_or(py::array_t<int64_t>())) {
    const bool stacked = !starts;
    const int lead = stacked ? 1 : 0;
    if (X.ndim() != 2 + lead || y.ndim() != 2 + lead)
      throw py::value_error("Many needs X (count,n,d) or, with starts, X (rows,d); y likewise.");
    dispatch(X.itemsize() == 4, [&](auto zero) {
      using T = decltype(zero);
      ManyRows<T> rows{};
      const auto matrix = [&](const py::array& a, int64_t& step) -> Matrix<const T> {
        const Dims strides = strides_of<T>(a);
        step = stacked ? strides[0] : 0;
        return {static_cast<const T*>(a.data()), strides[lead], strides[lead + 1]};
      };
      Problem<T>& all = rows.all;
      all.n = X.shape(lead);
      all.d = X.shape(lead + 1);
      all.t = y.shape(lead + 1);
      all.X = matrix(X, rows.X_step);
      all.y = matrix(y, rows.y_step);
      if (offset) all.offset = matrix(*offset, rows.offset_step);
      if (sample_weight) {
        const Dims strides = strides_of<T>(*sample_weight);
        rows.weight_step = stacked ? strides[0] : 0;
        all.sample_weight = {static_cast<const T*>(sample_weight->data()), strides[lead]};
      }
      all.fit_intercept = fit_intercept;
      all.reduction = reduction_of(reduction);
      all.device = &host_device<T>();
      rows.count = stacked ? X.shape(0) : starts_.size() - 1;
      if (starts) rows.starts.assign(starts_.data(), starts_.data() + starts_.size());
      if (order) rows.order = order_.data();
      many_ = std::make_unique<Many<T>>(std::move(rows), vector_of<uint8_t>(gram), judged, scaled);
    });
  }

  bool survey(bool curvature, bool steepest, double seconds, int n_threads) {
    ThreadScope scope(n_threads);
    return visit(
        [&](auto& m) { return compute([&] { return m.prepare(curvature, steepest, seconds); }); });
  }
  py::tuple surveyed() {
    return visit([](auto& m) -> py::tuple {
      return py::make_tuple(copy_of(m.curvature), copy_of(m.error), copy_of(m.steepest),
                            copy_of(m.empty), copy_of(m.finite), copy_of(m.from_rows),
                            copy_of(m.known()));
    });
  }
  void start(const py::dict& states, const py::handle& lr, bool schedule, int64_t first_epoch,
             const py::handle& tol, const py::handle& weight_decay, int64_t epochs, int64_t records,
             const py::handle& momentum, double dampening, bool nesterov, bool maximize,
             bool decay_intercept, bool has_momentum, bool auto_momentum, bool stop_on_equal_loss,
             int64_t history, int64_t batch_size, bool shuffle, uint64_t seed) {
    ManyOptions o{};
    o.common.sgd = {has_momentum ? 0.5 : 0.0, dampening, 0.0, nesterov, maximize, decay_intercept};
    o.auto_momentum = auto_momentum;
    o.momentum = vector_of<double>(momentum);
    o.common.batch_size = batch_size;
    o.common.shuffle = shuffle;
    o.common.seed = seed;
    o.common.stop_on_equal_loss = stop_on_equal_loss;
    o.common.history = history;
    o.common.record_params = false;
    o.epochs = epochs;
    o.records = records;
    o.lr = vector_of<double>(lr);
    o.schedule = schedule;
    o.first_epoch = first_epoch;
    o.tol = vector_of<double>(tol);
    o.weight_decay = vector_of<double>(weight_decay);
    o.skip = vector_of<uint8_t>(states["skipped"]);
    visit([&](auto& m) {
      using T = typename std::decay_t<decltype(m)>::value_type;
      ManyStates<T> s;
      s.params = vector_of<T>(states["params"]);
      s.velocity = vector_of<T>(states["velocity"]);
      s.moving = vector_of<uint8_t>(states["moving"]);
      s.epoch = vector_of<int64_t>(states["epoch"]);
      s.first_loss = vector_of<T>(states["first_loss"]);
      s.last_loss = vector_of<T>(states["last_loss"]);
      const auto count = static_cast<size_t>(m.count()), size = m.parameters() * count;
      const auto each = [&](const auto& v) { return v.size() == count; };
      if (s.params.size() != size || !(s.velocity.empty() || s.velocity.size() == size) ||
          !each(s.moving) || !each(s.epoch) || !each(s.first_loss) || !each(s.last_loss) ||
          !each(o.momentum) || !each(o.tol) || !each(o.weight_decay) || !each(o.skip) ||
          !(schedule || each(o.lr)))
        throw py::value_error("the states do not belong to these problems: their sizes differ.");
      m.start(std::move(o), std::move(s));
    });
  }
  bool advance(double seconds, int n_threads) {
    ThreadScope scope(n_threads);
    return visit([&](auto& m) { return compute([&] { return m.advance(seconds); }); });
  }
  bool solve(const ExactOptions& options, double seconds, int n_threads) {
    ThreadScope scope(n_threads);
    return visit([&](auto& m) { return compute([&] { return m.solve(options, seconds); }); });
  }
  py::array_t<int64_t> rank() {
    return visit([](auto& m) { return copy_of(m.rank); });
  }
  int64_t done() {
    return visit([](auto& m) { return m.done(); });
  }
  py::array_t<double> scalings() {
    return visit([](auto& m) { return copy_of(m.scalings()); });
  }
  py::dict states() {
    return visit([](auto& m) {
      const auto& s = m.states();
      std::vector<int8_t> outcome;
      for (Outcome one : s.outcome) outcome.push_back(static_cast<int8_t>(one));
      py::dict d;
      d["params"] = copy_of(s.params);
      d["returned"] = copy_of(m.returned_params());
      d["velocity"] = copy_of(s.velocity);
      d["moving"] = copy_of(s.moving);
      d["epoch"] = copy_of(s.epoch);
      d["first_loss"] = copy_of(s.first_loss);
      d["last_loss"] = copy_of(s.last_loss);
      d["loss"] = copy_of(s.loss);
      d["lr"] = copy_of(s.lr);
      d["chosen_lr"] = copy_of(m.rates());
      d["momentum"] = copy_of(s.momentum);
      d["r2_lost"] = copy_of(s.r2_lost);
      d["outcome"] = copy_of(outcome);
      d["losses"] = copy_of(s.losses);
      return d;
    });
  }

 private:
  std::vector<py::array> arrays_;  // keeps the memory alive
  py::array_t<int64_t> starts_, order_;
  std::variant<std::unique_ptr<Many<float>>, std::unique_ptr<Many<double>>> many_;
};

}  // namespace

void register_many(py::module_& m) {
  py::class_<PyMany>(m, "Many")
      .def(py::init<const py::array&, const py::array&, const std::optional<py::array>&,
                    const std::optional<py::array>&, bool, const py::object&,
                    const std::optional<py::array_t<int64_t>>&,
                    const std::optional<py::array_t<int64_t>>&, const py::object&, bool, bool>(),
           py::arg("X"), py::arg("y"), py::arg("offset"), py::arg("sample_weight"),
           py::arg("fit_intercept"), py::arg("reduction"), py::arg("starts"), py::arg("order"),
           py::arg("gram"), py::arg("judged") = false, py::arg("scaled") = false)
      .def("survey", &PyMany::survey, py::arg("curvature"), py::arg("steepest"), py::arg("seconds"),
           py::arg("n_threads"))
      .def("surveyed", &PyMany::surveyed)
      .def("start", &PyMany::start, py::arg("states"), py::kw_only(), py::arg("lr"),
           py::arg("schedule"), py::arg("first_epoch"), py::arg("tol"), py::arg("weight_decay"),
           py::arg("epochs"), py::arg("records"), py::arg("momentum"), py::arg("dampening"),
           py::arg("nesterov"), py::arg("maximize"), py::arg("decay_intercept"),
           py::arg("has_momentum"), py::arg("auto_momentum"), py::arg("stop_on_equal_loss"),
           py::arg("history"), py::arg("batch_size"), py::arg("shuffle"), py::arg("seed"))
      .def("advance", &PyMany::advance, py::arg("seconds"), py::arg("n_threads"))
      .def("solve", &PyMany::solve, py::arg("options"), py::arg("seconds"), py::arg("n_threads"))
      .def_property_readonly("rank", &PyMany::rank)
      .def_property_readonly("done", &PyMany::done)
      .def("scalings", &PyMany::scalings)
      .def("states", &PyMany::states);

  m.def(
      "rows_by_group",
      [](const py::array_t<int64_t, py::array::c_style>& labels, int64_t low, int64_t groups,
         int n_threads) -> py::tuple {
        ThreadScope scope(n_threads);
        if (groups < 1) throw py::value_error("there must be a group.");
        py::array_t<int64_t> starts(groups + 1), order(labels.size());
        int64_t *const s = starts.mutable_data(), *const o = order.mutable_data();
        const int64_t* const l = labels.data();
        const Grouping done =
            compute([&] { return rows_by_group(l, labels.size(), low, groups, s, o); });
        if (done == Grouping::outside) throw py::value_error("a label is not one of the groups.");
        if (done == Grouping::in_place) return py::make_tuple(starts, py::none());
        return py::make_tuple(starts, order);
      },
      py::arg("labels"), py::arg("low"), py::arg("groups"), py::arg("n_threads"));
}

}  // namespace gdcore
