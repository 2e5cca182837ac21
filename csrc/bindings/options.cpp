// Settings of fits: structs of the core, made of keyword arguments. An argument not given keeps the
// struct's default.
#include <optional>
#include <string>
#include <tuple>
#include <utility>

#include "bindings/register.hpp"
#include "bindings/vectors.hpp"
#include "fit/many.hpp"
#include "fit/rolling.hpp"

namespace gdcore {
namespace {

template <class S, class M>
struct Field {
  const char* name;
  M S::* member;
};
template <class S, class M>
Field<S, M> field(const char* name, M S::* member) {
  return {name, member};
}

template <class T>
void assign(T& to, py::handle value) {
  to = value.cast<T>();
}
void assign(Covariance& to, py::handle value) {
  constexpr std::pair<const char*, Covariance> kinds[] = {{"ols", Covariance::ols},
                                                          {"hc0", Covariance::hc0},
                                                          {"hc1", Covariance::hc1},
                                                          {"hc2", Covariance::hc2},
                                                          {"hc3", Covariance::hc3}};
  to = Covariance::none;
  for (const auto& [name, kind] : kinds)
    if (!value.is_none() && value.cast<std::string>() == name) to = kind;
}
template <class T>
void assign(std::vector<T>& to, py::handle value) {
  to = vector_of<T>(value);
}
template <class T>
void assign(std::optional<T>& to, py::handle value) {
  if (!value.is_none()) to = value.cast<T>();
}

template <class S, class... M>
void set(S& settings, py::handle name, py::handle value, const Field<S, M>&... fields) {
  const auto is_field = [&](const auto& f) {
    if (PyUnicode_CompareWithASCIIString(name.ptr(), f.name) != 0) return false;
    assign(settings.*f.member, value);
    return true;
  };
  if (!(is_field(fields) || ...))
    throw py::type_error("there is no setting '" + name.cast<std::string>() + "'.");
}

// A class of keyword arguments alone.
template <class S, class... M>
void register_settings(py::module_& m, const char* name, Field<S, M>... fields) {
  py::class_<S>(m, name).def(py::init([fields...](const py::kwargs& given) {
    S settings{};
    for (const auto& [key, value] : given) set(settings, key, value, fields...);
    return settings;
  }));
}

}  // namespace

void register_options(py::module_& m) {
  register_settings(
      m, "SgdOptions",  //
      field("momentum", &SgdOptions::momentum), field("dampening", &SgdOptions::dampening),
      field("weight_decay", &SgdOptions::weight_decay), field("nesterov", &SgdOptions::nesterov),
      field("maximize", &SgdOptions::maximize),
      field("decay_intercept", &SgdOptions::decay_intercept));
  register_settings(
      m, "DescentOptions",  //
      field("sgd", &DescentOptions::sgd), field("batch_size", &DescentOptions::batch_size),
      field("shuffle", &DescentOptions::shuffle), field("seed", &DescentOptions::seed),  //
      field("tol", &DescentOptions::tol),
      field("stop_on_equal_loss", &DescentOptions::stop_on_equal_loss),
      field("history", &DescentOptions::history),
      field("record_params", &DescentOptions::record_params));
  register_settings(m, "ExactOptions",  //
                    field("weight_decay", &ExactOptions::weight_decay),
                    field("decay_intercept", &ExactOptions::decay_intercept),
                    field("standardize", &ExactOptions::standardize),
                    field("rcond", &ExactOptions::rcond),
                    field("covariance", &ExactOptions::covariance));
  register_settings(m, "RollingOptions",  //
                    field("descent", &RollingOptions::descent),
                    field("epochs", &RollingOptions::epochs), field("lr", &RollingOptions::lr),
                    field("share", &RollingOptions::share),
                    field("standardize", &RollingOptions::standardize),
                    field("auto_momentum", &RollingOptions::auto_momentum),
                    field("exact", &RollingOptions::exact));
  register_settings(
      m, "ManyOptions",  //
      field("descent", &ManyOptions::common), field("lr", &ManyOptions::lr),
      field("momentum", &ManyOptions::momentum), field("tol", &ManyOptions::tol),
      field("weight_decay", &ManyOptions::weight_decay), field("skip", &ManyOptions::skip),
      field("epochs", &ManyOptions::epochs), field("records", &ManyOptions::records),
      field("auto_momentum", &ManyOptions::auto_momentum),
      field("schedule", &ManyOptions::schedule), field("first_epoch", &ManyOptions::first_epoch));
}

}  // namespace gdcore
