#include <pybind11/stl.h>

#include <array>
#include <mutex>
#include <optional>
#include <variant>

#include "bindings/arrays.hpp"
#include "bindings/register.hpp"
#include "bindings/vectors.hpp"
#include "cpu/parallel.hpp"
#include "fit/cholesky.hpp"
#include "fit/curvature.hpp"
#include "fit/descent.hpp"
#include "fit/exact.hpp"
#include "fit/outlook.hpp"
#include "fit/pivoted_cholesky.hpp"
#include "fit/rolling.hpp"
#include "fit/scaling.hpp"

namespace gdcore {
namespace {

// A problem and the arrays it looks at. X (n,d), y (n,t), offset (n,t), sample_weight (n): one
// dtype, see prepare.
class PyProblem {
 public:
  PyProblem(const py::array& X, const py::array& y, const std::optional<py::array>& offset,
            const std::optional<py::array>& sample_weight, bool fit_intercept,
            const py::object& reduction)
      : arrays_{X, y, offset.value_or(py::array()), sample_weight.value_or(py::array())} {
    const bool single = X.itemsize() == 4;
    const int64_t n = X.ndim() == 2 ? X.shape(0) : -1, t = y.ndim() == 2 ? y.shape(1) : -1;
    const auto fits = [&](const py::array& a, const Dims& shape) {
      return a.dtype().equal(X.dtype()) && shape_of(a) == shape;
    };
    if (n < 0 || t < 0 || !(usable(X, true) || usable(X, false)) || !fits(y, {n, t}) ||
        (offset && !fits(*offset, {n, t})) || (sample_weight && !fits(*sample_weight, {n})))
      throw py::value_error(
          "Problem needs X (n,d), y (n,t), offset (n,t) and sample_weight (n) of one floating "
          "dtype.");
    dispatch(single, [&](auto zero) {
      using T = decltype(zero);
      const auto matrix = [&](const py::array& a, bool present) -> Matrix<const T> {
        if (!present) return {nullptr, 0, 0};
        const Dims strides = strides_of<T>(a);
        return {static_cast<const T*>(a.data()), strides[0], strides[1]};
      };
      Vector<const T> weight{nullptr, 0};
      if (sample_weight)
        weight = {static_cast<const T*>(sample_weight->data()), strides_of<T>(*sample_weight)[0]};
      problem_ = Problem<T>{n,
                            X.shape(1),
                            t,
                            matrix(X, true),
                            matrix(y, true),
                            matrix(arrays_[2], offset.has_value()),
                            weight,
                            fit_intercept,
                            reduction_of(reduction),
                            nullptr,
                            &host_device<T>()};
    });
  }

  bool single() const { return std::holds_alternative<Problem<float>>(problem_); }
  template <class T>
  const Problem<T>& as() const {
    return std::get<Problem<T>>(problem_);
  }
  // The same rows, their columns standardised as they are read.
  PyProblem scaled(const py::handle& scaling) const {
    PyProblem copy = *this;
    copy.scaling_ = std::make_shared<std::vector<double>>(vector_of<double>(scaling));
    std::visit(
        [&](auto& p) {
          if (static_cast<int64_t>(copy.scaling_->size()) != 2 * p.d + p.t)
            throw py::value_error("the scaling does not belong to so many columns.");
          p.scaling = copy.scaling_->data();
        },
        copy.problem_);
    return copy;
  }
  double largest_row() const {
    FpEnv env;
    return compute(
        [&] { return std::visit([](const auto& p) { return gdcore::largest_row(p); }, problem_); });
  }

 private:
  std::vector<py::array> arrays_;  // keeps the memory alive
  std::shared_ptr<std::vector<double>> scaling_;
  std::variant<Problem<float>, Problem<double>> problem_;
};

// Second moments of rows, as a value.
class PyMoments {
 public:
  PyMoments(int64_t d, int64_t t) { moments_.reset(d, t); }
  explicit PyMoments(const Moments& moments) : moments_(moments) {}
  PyMoments(int64_t d, int64_t t, const py::handle& hi, const py::handle& lo) : PyMoments(d, t) {
    const size_t size = moments_.hi.size();
    moments_.hi = vector_of<double>(hi);
    moments_.lo = vector_of<double>(lo);
    if (moments_.hi.size() != size || moments_.lo.size() != size)
      throw py::value_error("the moments' arrays do not belong to so many columns.");
  }

  const Moments& get() const { return moments_; }

 private:
  Moments moments_;
};

template <class T>
void check_columns(const Moments& moments, const Problem<T>& problem) {
  if (moments.d != problem.d || moments.t != problem.t)
    throw py::value_error("the moments do not belong to this problem: its columns differ.");
}

template <class T>
std::optional<Quadratic<T>> quadratic_of(const PyMoments* moments, const Problem<T>& problem) {
  if (!moments) return std::nullopt;
  check_columns(moments->get(), problem);
  return Quadratic<T>(moments->get(), problem.fit_intercept, problem.scaling);
}

template <class T>
const T* address(const std::optional<T>& value) {
  return value ? &*value : nullptr;
}

class PyMomentsPass {
 public:
  PyMomentsPass(const PyProblem& problem, const PyMoments* start) : problem_(problem) {
    dispatch(problem.single(), [&](auto zero) {
      using T = decltype(zero);
      const Problem<T>& p = problem_.as<T>();
      if (start) check_columns(start->get(), p);
      pass_ = start ? std::make_unique<MomentsPass<T>>(p, start->get())
                    : std::make_unique<MomentsPass<T>>(p);
    });
  }
  bool advance(double seconds, int n_threads) {
    ThreadScope scope(n_threads);
    return std::visit(
        [&](auto& pass) {
          return compute([&] {
            FpEnv env;
            Budget budget(seconds);
            return pass->run(budget);
          });
        },
        pass_);
  }
  PyMoments moments() const {
    return std::visit([](const auto& pass) { return PyMoments(pass->moments); }, pass_);
  }

 private:
  PyProblem problem_;
  std::variant<std::unique_ptr<MomentsPass<float>>, std::unique_ptr<MomentsPass<double>>> pass_;
};

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

constexpr const char* outcome_names[] = {"running", "converged", "max_epochs", "diverged",
                                         "stalled"};

class PyDescent {
  template <class F>
  auto visit(F&& f) {
    return std::visit([&](auto& d) { return f(*d); }, descent_);
  }
  // Also keeps other threads out while `advance` runs without the GIL.
  template <class F>
  auto locked(F&& f) {
    std::unique_lock lock(*mutex_, std::defer_lock);
    {
      py::gil_scoped_release release;
      lock.lock();
    }
    return visit(f);
  }

 public:
  PyDescent(const PyProblem& problem, const py::dict& state, int64_t target_epoch, double momentum,
            double dampening, double weight_decay, bool nesterov, bool maximize,
            bool decay_intercept, int64_t batch_size, bool shuffle, uint64_t seed, double tol,
            bool stop_on_equal_loss, int64_t history, bool record_params, const PyMoments* moments,
            bool from_rows, int64_t start_epoch, const py::object& start)
      : problem_(problem) {
    DescentOptions o;
    o.sgd = {momentum, dampening, weight_decay, nesterov, maximize, decay_intercept};
    o.batch_size = batch_size;
    o.shuffle = shuffle;
    o.seed = seed;
    o.tol = tol;
    o.stop_on_equal_loss = stop_on_equal_loss;
    o.history = history;
    o.record_params = record_params;
    dispatch(problem.single(), [&](auto zero) {
      using T = decltype(zero);
      const auto& p = problem_.as<T>();
      auto descent = std::make_unique<Descent<T>>(p, o, state_from<T>(p, state), target_epoch,
                                                  address(quadratic_of<T>(moments, p)), from_rows);
      if (!start.is_none()) descent->set_start(start_epoch, vector_of<T>(start));
      descent_ = std::move(descent);
    });
  }

  const char* advance(double seconds, int n_threads) {
    ThreadScope scope(n_threads);
    return outcome_names[static_cast<int>(
        locked([&](auto& d) { return compute([&] { return d.advance(seconds); }); }))];
  }
  bool begin_pass() {
    return locked([](auto& d) { return d.begin_pass(); });
  }
  bool feed(const PyProblem& piece, uint64_t seed, double seconds, int n_threads) {
    ThreadScope scope(n_threads);
    return locked([&](auto& d) {
      using T = typename std::decay_t<decltype(d)>::Number;
      const Problem<T>& p = piece.as<T>();
      const Problem<T>& own = problem_.as<T>();
      if (p.d != own.d || p.t != own.t || p.fit_intercept != own.fit_intercept)
        throw py::value_error("the piece does not belong to this descent: its columns differ.");
      return compute([&] { return d.feed(p, seed, seconds); });
    });
  }
  const char* end_pass() {
    return outcome_names[static_cast<int>(locked([](auto& d) { return d.end_pass(); }))];
  }
  void set_constant_lr(double lr) {
    visit([&](auto& d) { d.set_constant_lr(lr); });
  }
  void set_schedule(int64_t first, const std::vector<double>& lrs) {
    visit([&](auto& d) { d.set_schedule(first, lrs); });
  }
  py::dict state() {
    return locked([](auto& d) { return dict_from(d.state()); });
  }
  // Epochs, losses and (if recorded) parameters of the history so far.
  py::tuple history() {
    return locked([](auto& d) -> py::tuple {
      const auto& h = d.history();
      return py::make_tuple(copy_of(h.epoch), copy_of(h.loss), copy_of(h.params));
    });
  }
  double loss() {
    return visit([](auto& d) { return static_cast<double>(d.loss()); });
  }
  double last_loss() {
    return visit([](auto& d) { return static_cast<double>(d.state().last_loss); });
  }
  double lr() {
    return visit([](auto& d) { return d.lr(); });
  }
  double r2_lost() {
    return locked([](auto& d) { return compute([&] { return d.r2_lost(); }); });
  }
  bool loss_doubtful() {
    return visit([](auto& d) { return d.loss_below_noise(); });
  }
  double least_known_loss() {
    return visit([](auto& d) { return static_cast<double>(d.loss_of_noise()); });
  }
  int64_t epoch() {
    return visit([](auto& d) { return d.state().epoch; });
  }

 private:
  PyProblem problem_;  // shares the arrays
  std::unique_ptr<std::mutex> mutex_ = std::make_unique<std::mutex>();
  std::variant<std::unique_ptr<Descent<float>>, std::unique_ptr<Descent<double>>> descent_;
};

class PySpectrum {
 public:
  PySpectrum(const PyProblem& problem, const PyMoments* moments) : problem_(problem) {
    dispatch(problem.single(), [&](auto zero) {
      using T = decltype(zero);
      const auto& p = problem_.as<T>();
      spectrum_ = std::make_unique<Spectrum<T>>(p, address(quadratic_of<T>(moments, p)));
    });
  }
  bool advance(double seconds, int n_threads) {
    ThreadScope scope(n_threads);
    return std::visit([&](auto& s) { return compute([&] { return s->advance(seconds); }); },
                      spectrum_);
  }
  double largest() const {
    return std::visit([](const auto& s) { return s->largest(); }, spectrum_);
  }
  double residual() const {
    return std::visit([](const auto& s) { return s->residual(); }, spectrum_);
  }

 private:
  PyProblem problem_;
  std::variant<std::unique_ptr<Spectrum<float>>, std::unique_ptr<Spectrum<double>>> spectrum_;
};

// What moments tell of a descent before its first step: see Goal and Outlook.
class PyOutlook {
  template <class T>
  struct Known {
    Quadratic<T> quadratic;
    Goal<T> goal;
    Outlook<T> outlook;
  };
  template <class F>
  auto visit(F&& f) const {
    return std::visit([&](const auto& known) { return f(*known); }, known_);
  }

 public:
  PyOutlook(const PyProblem& problem, const PyMoments& moments, const py::handle& start,
            double weight_decay, bool decay_intercept, double tol)
      : problem_(problem) {
    dispatch(problem.single(), [&](auto zero) {
      using T = decltype(zero);
      const Problem<T>& p = problem_.as<T>();
      check_columns(moments.get(), p);
      const auto params = vector_of<T>(start);
      if (static_cast<int64_t>(params.size()) != p.size())
        throw py::value_error("the start does not belong to this problem: its size differs.");
      SgdOptions sgd;
      sgd.weight_decay = weight_decay;
      sgd.decay_intercept = decay_intercept;
      auto known = std::make_unique<Known<T>>();
      compute([&] {
        const FpEnv env;
        known->quadratic.assign(moments.get(), p.fit_intercept, p.scaling);
        const Objective objective = p.objective(known->quadratic.sample_weight(), sgd);
        known->goal.assign(known->quadratic, objective, tol, p.returned());
        spectrum_ =
            known->goal.known() && known->quadratic.parameters() <= Outlook<T>::most_parameters;
        if (spectrum_)
          known->outlook.assign(known->quadratic, objective, known->goal, params.data());
      });
      known_ = std::move(known);
    });
  }

  bool known() const {
    return visit([](const auto& k) { return k.goal.known(); });
  }
  bool spectrum() const { return spectrum_; }
  int64_t rank() const {
    return visit([](const auto& k) { return k.goal.rank(); });
  }
  double largest() const {
    return visit([](const auto& k) { return k.outlook.largest(); });
  }
  double condition() const {
    return visit([](const auto& k) { return k.outlook.condition(); });
  }
  int64_t epochs(double lr, double momentum, double dampening, bool nesterov) const {
    return visit(
        [&](const auto& k) { return k.outlook.epochs({momentum, dampening, 0, nesterov}, lr); });
  }
  double r2_lost_after(int64_t epochs, double lr, double momentum, double dampening,
                       bool nesterov) const {
    return visit([&](const auto& k) {
      return k.outlook.r2_lost({momentum, dampening, 0, nesterov}, lr, epochs);
    });
  }
  py::tuple heavy_ball(int64_t epochs, double lr, double momentum) const {
    return visit([&](const auto& k) {
      const auto rates = k.outlook.heavy_ball(epochs, {lr, momentum});
      return py::make_tuple(rates.lr, rates.momentum);
    });
  }

 private:
  PyProblem problem_;
  bool spectrum_ = false;
  std::variant<std::unique_ptr<Known<float>>, std::unique_ptr<Known<double>>> known_;
};

py::array_t<double> scaling_of(const PyMoments& moments, bool fit_intercept, bool single) {
  const Moments& m = moments.get();
  std::vector<double> scaling(static_cast<size_t>(2 * m.d + m.t));
  const FpEnv env;
  single ? find_scaling<float>(m, fit_intercept, scaling.data())
         : find_scaling<double>(m, fit_intercept, scaling.data());
  return copy_of(scaling);
}

// Parameters (count, p) to or from those of standardised columns; scaling (count, 2 d + t).
py::array rescaled(const py::array& params, const py::array_t<double, aligned_dense>& scaling,
                   int64_t d, int64_t t, bool fit_intercept, bool to) {
  return dispatch(params.itemsize() == 4, [&](auto zero) -> py::array {
    using T = decltype(zero);
    std::vector<T> all = vector_of<T>(params);
    const int64_t p = (d + (fit_intercept ? 1 : 0)) * t, each = 2 * d + t;
    const int64_t count = each > 0 ? scaling.size() / each : 0;
    if (p * count != static_cast<int64_t>(all.size()))
      throw py::value_error("the scaling does not belong to these parameters: its size differs.");
    const FpEnv env;
    for (int64_t i = 0; i < count; ++i)
      (to ? to_scaled<T> : from_scaled<T>)(scaling.data() + i * each, d, t, fit_intercept,
                                           all.data() + i * p);
    return copy_of(all);
  });
}

class PyExact {
 public:
  PyExact(const PyProblem& problem, const ExactOptions& options) : problem_(problem) {
    dispatch(problem.single(), [&](auto zero) {
      using T = decltype(zero);
      exact_ = std::make_unique<Exact<T>>(problem_.as<T>(), options);
    });
  }
  bool advance(double seconds) {
    return std::visit([&](auto& e) { return compute([&] { return e->advance(seconds); }); },
                      exact_);
  }
  void go_on(const PyProblem& rows) {
    dispatch(problem_.single(), [&](auto zero) {
      using T = decltype(zero);
      const Problem<T>&was = problem_.as<T>(), &now = rows.as<T>();
      if (now.d != was.d || now.t != was.t || now.fit_intercept != was.fit_intercept)
        throw py::value_error("Exact goes on with rows of as many features and targets.");
      std::get<std::unique_ptr<Exact<T>>>(exact_)->go_on(now);
    });
    problem_ = rows;
  }
  py::tuple solve() {
    return std::visit(
        [](auto& e) -> py::tuple {
          const auto solution = compute([&] { return e->solve(); });
          return py::make_tuple(copy_of(solution.params), solution.rank);
        },
        exact_);
  }

 private:
  PyProblem problem_;
  std::variant<std::unique_ptr<Exact<float>>, std::unique_ptr<Exact<double>>> exact_;
};

// Parameters and loss, None for one that the moments cannot tell; or None for both.
py::object solve_normal(const PyProblem& problem, const PyMoments& moments,
                        const ExactOptions& options) {
  return dispatch(problem.single(), [&](auto zero) -> py::object {
    using T = decltype(zero);
    const Problem<T>& p = problem.as<T>();
    check_columns(moments.get(), p);
    NormalEquations<T> normal;
    const bool solved = compute([&] {
      FpEnv env;
      std::vector<double> packed(
          static_cast<size_t>(Quadratic<T>::packed_size(p.size() / p.t, p.t)));
      Quadratic<T>::pack(moments.get(), p.fit_intercept, nullptr, packed.data());
      return normal.solve(p, packed.data(), options);
    });
    if (!solved) return py::none();
    const py::object loss =
        normal.loss_known() ? py::object(py::float_(normal.loss())) : py::none();
    return py::make_tuple(copy_of(normal.params()), loss);
  });
}

// Parameters and rank.
py::tuple solve_moments(const PyProblem& problem, const PyMoments& moments,
                        const ExactOptions& options) {
  return dispatch(problem.single(), [&](auto zero) -> py::tuple {
    using T = decltype(zero);
    const Problem<T>& p = problem.as<T>();
    check_columns(moments.get(), p);
    const Solution<T> solution = compute([&] {
      FpEnv env;
      return solve(p, moments.get(), options);
    });
    return py::make_tuple(copy_of(solution.params), solution.rank);
  });
}

// Fits of windows; what is told of them is of those done so far.
class PyRolling {
 public:
  PyRolling(const PyProblem& problem, int64_t window, int64_t step, const py::object& start,
            int64_t epochs, double lr, double share, double momentum, double dampening,
            double weight_decay, bool nesterov, bool maximize, bool decay_intercept, double tol,
            bool stop_on_equal_loss, bool standardize, bool auto_momentum,
            const std::optional<ExactOptions>& exact)
      : problem_(problem) {
    RollingOptions o;
    o.exact = exact;
    o.standardize = standardize;
    o.auto_momentum = auto_momentum;
    o.window = window;
    o.step = step;
    o.epochs = epochs;
    o.lr = lr;
    o.share = share;
    o.descent.sgd = {momentum, dampening, weight_decay, nesterov, maximize, decay_intercept};
    o.descent.tol = tol;
    o.descent.stop_on_equal_loss = stop_on_equal_loss;
    o.descent.history = 0;
    dispatch(problem.single(), [&](auto zero) {
      using T = decltype(zero);
      const Problem<T>& p = problem_.as<T>();
      auto params = vector_of<T>(start);
      if (window < 1 || window > p.n || step < 1 || epochs < 0 ||
          static_cast<int64_t>(params.size()) != p.size())
        throw py::value_error("Rolling needs 1 to n rows in a window, a step, and a whole start.");
      rolling_ = std::make_unique<Rolling<T>>(p, o, std::move(params));
    });
  }

  bool advance(double seconds, int n_threads) {
    ThreadScope scope(n_threads);
    return std::visit([&](auto& r) { return compute([&] { return r->advance(seconds); }); },
                      rolling_);
  }
  py::dict results() const {
    return std::visit(
        [](const auto& r) {
          const auto& done = r->results();
          py::dict d;
          d["params"] = copy_of(done.params);
          d["loss"] = copy_of(done.loss);
          d["first_loss"] = copy_of(done.first_loss);
          d["lr"] = copy_of(done.lr);
          d["momentum"] = copy_of(done.momentum);
          d["r2_lost"] = copy_of(done.r2_lost);
          d["curvature"] = copy_of(done.curvature);
          d["epochs"] = copy_of(done.epochs);
          d["rank"] = copy_of(done.rank);
          py::list outcomes;
          for (const auto& outcome : done.outcome)
            outcomes.append(outcome ? py::object(py::str(outcome_names[static_cast<int>(*outcome)]))
                                    : py::object(py::none()));
          d["outcome"] = outcomes;
          return d;
        },
        rolling_);
  }
  int64_t done() const {
    return std::visit([](const auto& r) { return r->done(); }, rolling_);
  }
  int64_t summed_anew() const {
    return std::visit([](const auto& r) { return r->recomputed(); }, rolling_);
  }
  bool out_of_range() const {
    return std::visit([](const auto& r) { return r->out_of_range(); }, rolling_);
  }

 private:
  PyProblem problem_;
  std::variant<std::unique_ptr<Rolling<float>>, std::unique_ptr<Rolling<double>>> rolling_;
};

// Operands (name, value) or (name, value, optional) as arrays of one floating dtype, in order; None
// stays None.
py::list prepare(const py::args& pairs) {
  FpEnv env;
  std::vector<Named> named;
  std::vector<std::string> names;
  names.reserve(pairs.size());
  for (const auto& pair : pairs) names.push_back(pair.cast<py::tuple>()[0].cast<std::string>());
  for (size_t i = 0; i < names.size(); ++i) {
    const auto pair = pairs[i].cast<py::tuple>();
    named.push_back({names[i].c_str(), pair[1], pair.size() > 2 && pair[2].cast<bool>()});
  }
  std::vector<py::array> arrays(named.size(), no_array());
  as_floats(named.data(), named.size(), arrays.data());
  py::list out;
  for (const py::array& a : arrays) out.append(a ? py::object(a) : py::none());
  return out;
}

// One step on arrays of the parameter's shape; param and velocity (None without momentum) are
// updated in place.
void step_in_place(py::array param, const py::object& grad, const py::object& velocity, bool first,
                   double lr, double momentum, double dampening, double weight_decay, bool nesterov,
                   bool maximize) {
  FpEnv env;
  const bool single = param.itemsize() == 4;
  const SgdOptions options{momentum, dampening, weight_decay, nesterov, maximize, true};
  dispatch(single, [&](auto zero) {
    using T = decltype(zero);
    using Dense = py::array_t<T, aligned_dense>;
    const auto in_place = [](const py::array& a) {
      return (a.flags() & py::array::c_style) &&
             (a.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_) &&
             a.dtype().equal(py::dtype::of<T>());
    };
    const auto dense = [&](const py::array& a) -> py::array {
      return in_place(a) ? a
                         : py::reinterpret_steal<py::array>(
                               a.attr("astype")(py::dtype::of<T>(), "C").release());
    };
    const py::array p = dense(param);
    Dense g = Dense::ensure(grad);
    if (!g) throw py::type_error("the gradient is not an array of numbers.");
    py::array v, v_given;
    if (!velocity.is_none()) {
      v_given = velocity.cast<py::array>();
      v = dense(v_given);
    }
    if ((overlap(p, g) && p.data() != g.data()) || (v && overlap(v, g)))
      g = Dense::ensure(g.attr("copy")());
    if (v && overlap(p, v))
      throw py::value_error("a velocity shares memory with its parameter; call init(params) anew.");
    T* const p_data = static_cast<T*>(const_cast<void*>(p.data()));
    T* const v_data = velocity.is_none() ? nullptr : static_cast<T*>(const_cast<void*>(v.data()));
    const T* const g_data = g.data();
    compute([&] { host_device<T>().sgd(p.size(), p_data, g_data, v_data, first, lr, options); });
    if (!in_place(param)) param[py::ellipsis()] = p;
    if (!velocity.is_none() && !in_place(v_given)) v_given[py::ellipsis()] = v;
  });
}

// A with-statement in the contract's floating-point mode, for the few sums that Python does.
class PyFpEnv {
 public:
  void enter() { env_ = std::make_unique<FpEnv>(); }
  void exit(const py::args&) { env_.reset(); }

 private:
  std::unique_ptr<FpEnv> env_;
};

}  // namespace

void register_fit(py::module_& m) {
  py::class_<PyFpEnv>(m, "FpEnv")
      .def(py::init<>())
      .def("__enter__", &PyFpEnv::enter)
      .def("__exit__", &PyFpEnv::exit);

  py::class_<PyProblem>(m, "Problem")
      .def(py::init<const py::array&, const py::array&, const std::optional<py::array>&,
                    const std::optional<py::array>&, bool, const py::object&>(),
           py::arg("X"), py::arg("y"), py::arg("offset"), py::arg("sample_weight"),
           py::arg("fit_intercept"), py::arg("reduction"))
      .def("scaled", &PyProblem::scaled, py::arg("scaling"))
      .def("largest_row", &PyProblem::largest_row);

  py::class_<PyMoments>(m, "Moments")
      .def(py::init<int64_t, int64_t>(), py::arg("d"), py::arg("t"))
      .def(py::init<int64_t, int64_t, const py::object&, const py::object&>(), py::arg("d"),
           py::arg("t"), py::arg("hi"), py::arg("lo"))
      .def("finite", [](const PyMoments& s) { return s.get().finite(); })
      .def("in_range", [](const PyMoments& s, bool single) { return s.get().in_range(single); })
      .def_property_readonly("hi", [](const PyMoments& s) { return copy_of(s.get().hi); })
      .def_property_readonly("lo", [](const PyMoments& s) { return copy_of(s.get().lo); });

  py::class_<PyMomentsPass>(m, "MomentsPass")
      .def(py::init<const PyProblem&, const PyMoments*>(), py::arg("problem"),
           py::arg("start") = nullptr)
      .def("advance", &PyMomentsPass::advance, py::arg("seconds"), py::arg("n_threads"))
      .def("moments", &PyMomentsPass::moments);

  py::class_<PyDescent>(m, "Descent")
      .def(py::init<const PyProblem&, const py::dict&, int64_t, double, double, double, bool, bool,
                    bool, int64_t, bool, uint64_t, double, bool, int64_t, bool, const PyMoments*,
                    bool, int64_t, const py::object&>(),
           py::arg("problem"), py::arg("state"), py::arg("target_epoch"), py::kw_only(),
           py::arg("momentum"), py::arg("dampening"), py::arg("weight_decay"), py::arg("nesterov"),
           py::arg("maximize"), py::arg("decay_intercept"), py::arg("batch_size"),
           py::arg("shuffle"), py::arg("seed"), py::arg("tol"), py::arg("stop_on_equal_loss"),
           py::arg("history"), py::arg("record_params"), py::arg("moments") = nullptr,
           py::arg("from_rows") = false, py::arg("start_epoch") = 0, py::arg("start") = py::none())
      .def("advance", &PyDescent::advance, py::arg("seconds"), py::arg("n_threads"))
      .def("begin_pass", &PyDescent::begin_pass)
      .def("feed", &PyDescent::feed, py::arg("piece"), py::arg("seed"), py::arg("seconds"),
           py::arg("n_threads"))
      .def("end_pass", &PyDescent::end_pass)
      .def("set_constant_lr", &PyDescent::set_constant_lr, py::arg("lr"))
      .def("set_schedule", &PyDescent::set_schedule, py::arg("first"), py::arg("lrs"))
      .def("state", &PyDescent::state)
      .def("history", &PyDescent::history)
      .def_property_readonly("loss", &PyDescent::loss)
      .def_property_readonly("last_loss", &PyDescent::last_loss)
      .def_property_readonly("lr", &PyDescent::lr)
      .def_property_readonly("r2_lost", &PyDescent::r2_lost)
      .def_property_readonly("loss_doubtful", &PyDescent::loss_doubtful)
      .def_property_readonly("least_known_loss", &PyDescent::least_known_loss)
      .def_property_readonly("epoch", &PyDescent::epoch);

  py::class_<PySpectrum>(m, "Spectrum")
      .def(py::init<const PyProblem&, const PyMoments*>(), py::arg("problem"),
           py::arg("moments") = nullptr)
      .def("advance", &PySpectrum::advance, py::arg("seconds"), py::arg("n_threads"))
      .def_property_readonly("largest", &PySpectrum::largest)
      .def_property_readonly("residual", &PySpectrum::residual);

  py::class_<PyOutlook>(m, "Outlook")
      .def(py::init<const PyProblem&, const PyMoments&, const py::handle&, double, bool, double>(),
           py::arg("problem"), py::arg("moments"), py::arg("start"), py::kw_only(),
           py::arg("weight_decay"), py::arg("decay_intercept"), py::arg("tol"))
      .def_readonly_static("most_parameters", &Outlook<double>::most_parameters)
      .def_property_readonly("known", &PyOutlook::known)
      .def_property_readonly("spectrum", &PyOutlook::spectrum)
      .def_property_readonly("rank", &PyOutlook::rank)
      .def_property_readonly("largest", &PyOutlook::largest)
      .def_property_readonly("condition", &PyOutlook::condition)
      .def("epochs", &PyOutlook::epochs, py::arg("lr"), py::arg("momentum"), py::arg("dampening"),
           py::arg("nesterov"))
      .def("r2_lost_after", &PyOutlook::r2_lost_after, py::arg("epochs"), py::arg("lr"),
           py::arg("momentum"), py::arg("dampening"), py::arg("nesterov"))
      .def("heavy_ball", &PyOutlook::heavy_ball, py::arg("epochs"),
           py::arg("lr") = std::numeric_limits<double>::quiet_NaN(),
           py::arg("momentum") = std::numeric_limits<double>::quiet_NaN());
  m.def("scaling_of", &scaling_of, py::arg("moments"), py::arg("fit_intercept"), py::arg("single"));
  m.def("rescaled", &rescaled, py::arg("params"), py::arg("scaling"), py::arg("d"), py::arg("t"),
        py::arg("fit_intercept"), py::arg("to"));

  py::class_<ExactOptions>(m, "ExactOptions")
      .def(py::init([](double weight_decay, bool decay_intercept, bool standardize, double rcond) {
             return ExactOptions{weight_decay, decay_intercept, standardize, rcond};
           }),
           py::kw_only(), py::arg("weight_decay"), py::arg("decay_intercept"),
           py::arg("standardize"), py::arg("rcond"));
  py::class_<PyExact>(m, "Exact")
      .def(py::init<const PyProblem&, const ExactOptions&>(), py::arg("problem"),
           py::arg("options"))
      .def("advance", &PyExact::advance, py::arg("seconds"))
      .def("go_on", &PyExact::go_on, py::arg("rows"))
      .def("solve", &PyExact::solve);
  m.def("solve_normal", &solve_normal, py::arg("problem"), py::arg("moments"), py::arg("options"));
  m.def("solve_moments", &solve_moments, py::arg("problem"), py::arg("moments"),
        py::arg("options"));

  py::class_<PyRolling>(m, "Rolling")
      .def(py::init<const PyProblem&, int64_t, int64_t, const py::object&, int64_t, double, double,
                    double, double, double, bool, bool, bool, double, bool, bool, bool,
                    const std::optional<ExactOptions>&>(),
           py::arg("problem"), py::arg("window"), py::arg("step"), py::arg("start"),
           py::arg("epochs"), py::arg("lr"), py::arg("share"), py::kw_only(), py::arg("momentum"),
           py::arg("dampening"), py::arg("weight_decay"), py::arg("nesterov"), py::arg("maximize"),
           py::arg("decay_intercept"), py::arg("tol"), py::arg("stop_on_equal_loss"),
           py::arg("standardize"), py::arg("auto_momentum"), py::arg("exact"))
      .def("advance", &PyRolling::advance, py::arg("seconds"), py::arg("n_threads"))
      .def("results", &PyRolling::results)
      .def_property_readonly("done", &PyRolling::done)
      .def_property_readonly("summed_anew", &PyRolling::summed_anew)
      .def_property_readonly("out_of_range", &PyRolling::out_of_range);

  m.def("prepare", &prepare);
  m.def("overlapping", &overlapping, py::arg("arrays"));
  m.def("sgd_step", &step_in_place, py::arg("param"), py::arg("grad"), py::arg("velocity"),
        py::arg("first"), py::arg("lr"), py::arg("momentum"), py::arg("dampening"),
        py::arg("weight_decay"), py::arg("nesterov"), py::arg("maximize"));
  m.def(
      "philox",
      [](std::array<uint32_t, 4> c, std::array<uint32_t, 2> k) {
        const PhiloxWords words = philox({{c[0], c[1], c[2], c[3]}}, k[0], k[1]);
        return std::array<uint32_t, 4>{words.at[0], words.at[1], words.at[2], words.at[3]};
      },
      py::arg("counter"), py::arg("key"));
  m.def(
      "permutation",
      [](int64_t n, uint64_t seed, uint64_t epoch) {
        if (n < 0) throw py::value_error("n is " + std::to_string(n) + "; it must be 0 or larger.");
        const Permutation order(n, seed, epoch);
        py::array_t<int64_t> out(n);
        for (int64_t i = 0; i < n; ++i) out.mutable_data()[i] = order(i);
        return out;
      },
      py::arg("n"), py::arg("seed"), py::arg("epoch"));
}

}  // namespace gdcore
