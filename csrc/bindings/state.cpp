#include "bindings/state.hpp"

#include <algorithm>

#include "bindings/vectors.hpp"

namespace gdcore {

template <class T>
DescentState<T> state_from(const Problem<T>& problem, const py::dict& dict) {
  DescentState<T> s;
  s.params = vector_of<T>(dict["params"]);
  s.velocity = vector_of<T>(dict["velocity"]);
  s.epoch = dict["epoch"].cast<int64_t>();
  s.step = dict["step"].cast<int64_t>();
  s.lr = dict["lr"].cast<double>();
  s.previous = vector_of<T>(dict["previous"]);
  s.moved = dict["moved"].cast<bool>();
  s.epoch_moved = dict["epoch_moved"].cast<bool>();
  s.first_loss = dict["first_loss"].cast<T>();
  s.last_loss = dict["last_loss"].cast<T>();
  const auto sums = vector_of<double>(dict["epoch_sums"]);
  s.epoch_sums.reset(problem.d, problem.t);
  const size_t weights = s.epoch_sums.weights.size(), intercept = s.epoch_sums.intercept.size();
  const auto size = static_cast<size_t>(problem.size());
  if (s.params.size() != size || (!s.velocity.empty() && s.velocity.size() != size) ||
      (!s.previous.empty() && s.previous.size() != size) || s.epoch < 0 || s.step < 0 ||
      (!sums.empty() && sums.size() != 2 + weights + intercept))
    throw py::value_error("the fit's state does not belong to this problem: its sizes differ.");
  if (sums.empty()) return s;
  s.epoch_sums.squares = sums[0];
  s.epoch_sums.sample_weight = sums[1];
  std::copy_n(sums.begin() + 2, weights, s.epoch_sums.weights.begin());
  std::copy_n(sums.begin() + 2 + static_cast<std::ptrdiff_t>(weights), intercept,
              s.epoch_sums.intercept.begin());
  return s;
}
template DescentState<float> state_from<float>(const Problem<float>&, const py::dict&);
template DescentState<double> state_from<double>(const Problem<double>&, const py::dict&);

template <class T>
py::dict dict_from(const DescentState<T>& s) {
  std::vector<double> sums{s.epoch_sums.squares, s.epoch_sums.sample_weight};
  sums.insert(sums.end(), s.epoch_sums.weights.begin(), s.epoch_sums.weights.end());
  sums.insert(sums.end(), s.epoch_sums.intercept.begin(), s.epoch_sums.intercept.end());
  py::dict d;
  d["params"] = copy_of(s.params);
  d["velocity"] = copy_of(s.velocity);
  d["epoch"] = s.epoch;
  d["step"] = s.step;
  d["lr"] = s.lr;
  d["previous"] = copy_of(s.previous);
  d["moved"] = s.moved;
  d["epoch_moved"] = s.epoch_moved;
  d["first_loss"] = static_cast<double>(s.first_loss);
  d["last_loss"] = static_cast<double>(s.last_loss);
  d["epoch_sums"] = copy_of(sums);
  return d;
}
template py::dict dict_from<float>(const DescentState<float>&);
template py::dict dict_from<double>(const DescentState<double>&);

const char* name_of(Outcome outcome) {
  switch (outcome) {
    case Outcome::running: return "running";
    case Outcome::converged: return "converged";
    case Outcome::max_epochs: return "max_epochs";
    case Outcome::diverged: return "diverged";
    case Outcome::stalled: return "stalled";
  }
  return "";
}

}  // namespace gdcore
