#include "fit/many.hpp"

#include "bindings/either.hpp"
#include "bindings/problem.hpp"
#include "bindings/register.hpp"
#include "bindings/vectors.hpp"

namespace gdcore {
namespace {

using PyMany = Either<Many>;

PyMany fits_of(const PyProblems& problems, const py::object& gram, bool judged, bool scaled) {
  return {problems.single(), [&](auto zero) {
            using T = decltype(zero);
            return std::make_unique<Many<T>>(problems.as<T>(), vector_of<uint8_t>(gram), judged,
                                             scaled);
          }};
}

bool prepare(const PyMany& many, bool curvature, bool steepest, double seconds, int n_threads) {
  return many.run(n_threads, [&](auto& m) { return m.prepare(curvature, steepest, seconds); });
}

template <class T>
py::tuple prepared(const Many<T>& m) {
  return py::make_tuple(copy_of(m.curvature), copy_of(m.error), copy_of(m.steepest),
                        copy_of(m.empty), copy_of(m.finite), copy_of(m.from_rows),
                        copy_of(m.known()));
}

template <class T>
ManyStates<T> states_from(const py::dict& dict) {
  ManyStates<T> s;
  s.params = vector_of<T>(dict["params"]);
  s.velocity = vector_of<T>(dict["velocity"]);
  s.moving = vector_of<uint8_t>(dict["moving"]);
  s.epoch = vector_of<int64_t>(dict["epoch"]);
  s.first_loss = vector_of<T>(dict["first_loss"]);
  s.last_loss = vector_of<T>(dict["last_loss"]);
  return s;
}

template <class T>
bool sizes_fit(const Many<T>& m, const ManyStates<T>& s, const ManyOptions& o) {
  const size_t count = static_cast<size_t>(m.count()), size = m.parameters() * count;
  const auto each = [&](const auto& v) { return v.size() == count; };
  return s.params.size() == size && (s.velocity.empty() || s.velocity.size() == size) &&
         each(s.moving) && each(s.epoch) && each(s.first_loss) && each(s.last_loss) &&
         each(o.momentum) && each(o.tol) && each(o.weight_decay) && each(o.skip) &&
         (o.schedule || each(o.lr));
}

void start(const PyMany& many, const py::dict& states, const ManyOptions& options) {
  many.visit([&](auto& m) {
    auto s = states_from<Number<decltype(m)>>(states);
    if (!sizes_fit(m, s, options))
      throw py::value_error("the states do not belong to these problems: their sizes differ.");
    m.start(options, std::move(s));
  });
}

bool solve_many(const PyMany& many, const ExactOptions& options, double seconds, int n_threads) {
  return many.run(n_threads, [&](auto& m) { return m.solve(options, seconds); });
}

// Covariances, variances of the errors, R^2, degrees of freedom, flaws.
template <class T>
py::tuple inferences_of(const Many<T>& m) {
  const Inferences& all = m.inferences;
  std::vector<int8_t> flaws;
  for (const Flaw flaw : all.flaw) flaws.push_back(static_cast<int8_t>(flaw));
  return py::make_tuple(copy_of(all.covariance), copy_of(all.sigma2), copy_of(all.r2),
                        copy_of(all.df_resid), copy_of(flaws));
}

// Includes problems not finished yet.
template <class T>
py::dict states_of(Many<T>& m) {
  const ManyStates<T>& s = m.states();
  std::vector<int8_t> outcomes;
  for (const Outcome outcome : s.outcome) outcomes.push_back(static_cast<int8_t>(outcome));
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
  d["outcome"] = copy_of(outcomes);
  d["losses"] = copy_of(s.losses);
  return d;
}

}  // namespace

void register_many(py::module_& m) {
  py::class_<PyMany>(m, "Many")
      .def(py::init(&fits_of), py::keep_alive<1, 2>(), py::arg("problems"), py::arg("gram"),
           py::arg("judged") = false, py::arg("scaled") = false)
      .def("prepare", &prepare, py::arg("curvature"), py::arg("steepest"), py::arg("seconds"),
           py::arg("n_threads"))
      .def("prepared", reading<Many>([](const auto& many) { return prepared(many); }))
      .def("start", &start, py::arg("states"), py::arg("options"))
      .def("advance", &advance<Many>, py::arg("seconds"), py::arg("n_threads"))
      .def("solve", &solve_many, py::arg("options"), py::arg("seconds"), py::arg("n_threads"))
      .def_property_readonly("rank",
                             reading<Many>([](const auto& many) { return copy_of(many.rank); }))
      .def("unsolved", reading<Many>([](const auto& many) { return copy_of(many.unsolved); }))
      .def_property_readonly("done", reading<Many>([](const auto& many) { return many.done(); }))
      .def("scalings", reading<Many>([](const auto& many) { return copy_of(many.scalings()); }))
      .def("inferences", reading<Many>([](const auto& many) { return inferences_of(many); }))
      .def("states", reading<Many>([](auto& many) { return states_of(many); }));
}

}  // namespace gdcore
