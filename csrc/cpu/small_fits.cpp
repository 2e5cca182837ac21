// Several problems at a time: small ones of one target side by side in the lanes of vectors, all
// others one after the other. Threads share them.
#include <algorithm>
#include <atomic>
#include <vector>

#include "cpu/dispatch.hpp"
#include "cpu/lane_layout.hpp"
#include "cpu/operations.hpp"
#include "cpu/parallel.hpp"
#include "cpu/threads.hpp"
#include "descend.hpp"

namespace gdcore::cpu {
namespace {

// Rows of up to `lanes` problems, transposed.
template <class T>
class LanePanel {
 public:
  void shape(int64_t d, int64_t most_rows, bool has_offset) {
    X_.assign(static_cast<size_t>(most_rows * d * lanes), T(0));
    y_.assign(static_cast<size_t>(most_rows * lanes), T(0));
    ones_.assign(y_.size(), T(0));
    offset_.assign(has_offset ? y_.size() : 0, T(0));
    std::fill_n(n_, lanes, 0);
    view_ = {d,  X_.data(), y_.data(), ones_.data(), has_offset ? offset_.data() : nullptr,
             n_, 0,         0};
  }

  bool suits(const LinearArgs<T>& args) const {
    return view_.d == args.d && (view_.offset != nullptr) == (args.offset.data != nullptr) &&
           args.n * lanes <= static_cast<int64_t>(y_.size());
  }
  // What kernels read of the lanes that are active.
  LaneRows<T> view(unsigned active) const {
    LaneRows<T> view = view_;
    view.fewest = L<T>;
    for (int lane = 0; lane < lanes; ++lane) {
      if (!(active >> lane & 1)) continue;
      view.fewest = std::min(view.fewest, n_[lane]);
      view.most = std::max(view.most, n_[lane]);
    }
    return view;
  }

  void load(int lane, const ProblemRows<T>& rows) {
    const LinearArgs<T>& args = rows.args;
    const RowOrder& order = rows.order;
    const int64_t n = args.n, before = n_[lane], d = view_.d;
    const Matrix<const T>&X = args.X, &y = args.y, &offset = args.offset;
    T *const to_X = X_.data() + lane, *const to_y = y_.data() + lane,
             *const to_1 = ones_.data() + lane;
    const auto row = [&](int64_t i) { return order.rows ? order.rows[i] : i; };
    if (args.scaling) {
      for (int64_t i = 0; i < n; ++i)
        for (int64_t j = 0; j < d; ++j)
          to_X[(i * d + j) * lanes] = args.scaled_x(X.data[row(i) * X.rs + j * X.cs], j);
    } else if (!order.rows && X.rs == d && X.cs == 1) {
      for (int64_t k = 0; k < n * d; ++k) to_X[k * lanes] = X.data[k];
    } else {
      constexpr int64_t ahead = 32;  // rows in an order are anywhere
      for (int64_t i = 0; i < n; ++i) {
        if (order.end - order.rows > i + ahead) {
          __builtin_prefetch(X.data + row(i + ahead) * X.rs);
          __builtin_prefetch(y.data + row(i + ahead) * y.rs);
        }
        for (int64_t j = 0; j < d; ++j)
          to_X[(i * d + j) * lanes] = X.data[row(i) * X.rs + j * X.cs];
      }
    }
    for (int64_t i = 0; i < n; ++i) {
      const T value = y.data[row(i) * y.rs];
      to_y[i * lanes] = args.scaling ? args.scaled_y(value, 0) : value;
    }
    for (int64_t i = 0; i < n && view_.offset; ++i)
      offset_[i * lanes + lane] = offset.data[row(i) * offset.rs];
    for (int64_t k = n * d; k < before * d; ++k) to_X[k * lanes] = 0;
    for (int64_t i = n; i < before; ++i) to_y[i * lanes] = to_1[i * lanes] = 0;
    for (int64_t i = before; i < n; ++i) to_1[i * lanes] = 1;
    n_[lane] = n;
  }

 private:
  std::vector<T> X_, y_, ones_, offset_;
  int64_t n_[lanes] = {};
  LaneRows<T> view_{};
};

// ---- Second moments ----

template <class T>
class MomentLanes {
 public:
  static bool serve(const LinearArgs<T>& args) {
    constexpr int64_t most_elements = 4096;  // of a lane: a second cache holds all
    return args.t == 1 && args.d < most_lane_params && args.n <= L<T> && !args.offset.data &&
           !args.sample_weight.data && !args.scaling && args.n * (args.d + 2) <= most_elements;
  }

  // Problems [0, count) of d features, count <= lanes.
  void run(int64_t count, const ProblemRows<T>* problems, int64_t most_rows, Moments* moments) {
    const int64_t d = problems[0].args.d;
    const bool suit = std::all_of(problems, problems + count, [&](const ProblemRows<T>& problem) {
      return panel_.suits(problem.args);
    });
    if (!suit) panel_.shape(d, most_rows, false);
    for (int lane = 0; lane < count; ++lane) panel_.load(lane, problems[lane]);
    view_.rows = panel_.view((1u << count) - 1);
    view_.side = (d + 2 + 2) / 3 * 3;
    view_.low = view_.side * view_.side * lanes;
    sums_.resize(static_cast<size_t>(2 * view_.low));
    view_.out = sums_.data();
    isa<T>().moments_lanes(view_);
    for (int lane = 0; lane < count; ++lane) unload(lane, moments[lane]);
  }

 private:
  void unload(int lane, Moments& out) const {
    const int64_t d = view_.rows.d;
    out.reset(d, 1);
    const auto put = [&](int64_t to, int64_t a, int64_t b) {
      const int64_t from = (a * view_.side + b) * lanes + lane;
      const Pair sum = add({}, {sums_[from], sizeof(T) == 4 ? 0.0 : sums_[from + view_.low]});
      out.hi[to] = sum.hi;
      out.lo[to] = sum.lo;
    };
    for (int64_t a = 0; a <= d; ++a)
      for (int64_t b = a; b < d + 2; ++b) put(a * out.columns() + b, a, b);
    put((d + 1) * out.columns(), d + 1, d + 1);
  }

  LanePanel<T> panel_;
  std::vector<double> sums_;
  LaneMoments<T> view_{};
};

template <class T>
void moments_of(const ProblemRows<T>& problem, Moments& moments) {
  std::vector<T> gathered;
  const LinearArgs<T> args = rows_in_order(problem, gathered);
  moments.reset(args.d, args.t);
  cpu::moments(args, 0, ceil_div(args.n, L<T>), moments);
  moments.close();
}

template <class T>
MomentLanes<T>& moment_lanes() {
  thread_local MomentLanes<T> lanes;
  return lanes;
}

// ---- Descents ----

// Descents on quadratics of the same size, or on rows of as many features, a lane each.
template <class T>
class DescentLanesOf {
 public:
  static bool serve(const DescentArgs<T>& q) {
    const LinearArgs<T>& rows = q.rows.args;
    if (rows.t != 1 || q.size < 1 || q.size > most_lane_params || q.sgd.maximize) return false;
    return q.quadratic || (rows.d > 0 && rows.d <= most_lane_features && rows.n > 0 &&
                           rows.n <= L<T> && rows.y.data && !rows.sample_weight.data);
  }
  // The fewest descents for which lanes pay: they save the fixed cost of an epoch, and take the
  // time of eight for the rest (docs/experiments.md).
  static int64_t least_count(const DescentArgs<T>& q) {
    constexpr int64_t most_params = sizeof(T) == 4 ? 6 : 3, most_rows = 16;  // of one descent
    if (!q.quadratic) return q.rows.args.n <= most_rows ? 1 : 3;
    return q.size <= most_params ? 1 : 2;
  }

  void start() { view_.active = 0; }  // whatever an exception has left
  // Runs q beside the descents in the lanes; if all lanes are taken, some descents end first.
  void add(const DescentArgs<T>& q, int64_t most_rows) {
    if (!suits(q)) {
      drain();
      shape(q, most_rows);
    }
    load(__builtin_ctz(~view_.active), q);
    while (view_.active + 1 == 1u << lanes) run();
  }
  void drain() {
    while (view_.active != 0) run();
  }

 private:
  static constexpr int64_t most_epochs = 256;  // of one run

  bool suits(const DescentArgs<T>& q) const {
    return shaped_ && view_.p == q.size && view_.on_rows == !q.quadratic &&
           (q.quadratic || panel_.suits(q.rows.args)) && view_.decayed == q.decayed &&
           view_.has_momentum == (q.sgd.momentum != 0) && view_.nesterov == q.sgd.nesterov &&
           view_.damped == static_cast<T>(1.0 - q.sgd.dampening) &&
           view_.stop_on_equal_loss == q.stop_on_equal_loss &&
           (!q.recorded || view_.params != nullptr);
  }

  void shape(const DescentArgs<T>& q, int64_t most_rows) {
    const int64_t p = q.size;
    view_ = {};
    view_.p = p;
    view_.on_rows = !q.quadratic;
    view_.decayed = q.decayed;
    view_.has_momentum = q.sgd.momentum != 0;
    view_.nesterov = q.sgd.nesterov;
    view_.damped = static_cast<T>(1.0 - q.sgd.dampening);
    view_.stop_on_equal_loss = q.stop_on_equal_loss;
    if (view_.on_rows) panel_.shape(q.rows.args.d, most_rows, q.rows.args.offset.data != nullptr);
    sums_.assign(static_cast<size_t>(view_.on_rows ? 0 : 2 * (p * p + p + 1) * lanes), 0.0);
    scales_.assign(6 * lanes, 1.0);
    params_.assign(static_cast<size_t>((3 * p + 2) * lanes), T(0));
    losses_.resize((most_epochs + 1) * lanes);
    records_.resize(q.recorded ? static_cast<size_t>(most_epochs * p * lanes) : 0);
    flags_.assign(2 * lanes, 0);
    view_.G = sums_.data();
    view_.c = view_.G + 2 * p * p * lanes;
    view_.s = view_.c + 2 * p * lanes;
    const double** scales[] = {&view_.divisor, &view_.factor,     &view_.lr,
                               &view_.decay,   &view_.norm_bound, &view_.momentum};
    for (size_t i = 0; i < 6; ++i) *scales[i] = scales_.data() + i * lanes;
    T* params = params_.data();
    view_.w = params;
    view_.velocity = params += p * lanes;
    view_.previous = params += p * lanes;
    view_.first_loss = params += p * lanes;
    view_.last_loss = params + lanes;
    view_.moving = flags_.data();
    view_.moved = flags_.data() + lanes;
    view_.losses = losses_.data();
    view_.params = records_.empty() ? nullptr : records_.data();
    shaped_ = true;
  }

  void load(int lane, const DescentArgs<T>& q) {
    view_.on_rows ? panel_.load(lane, q.rows) : load_quadratic(lane, q.quadratic);
    const double values[] = {q.scale.divisor,    q.scale.gradient, q.lr,
                             q.sgd.weight_decay, q.norm_bound,     q.sgd.momentum};
    for (size_t i = 0; i < 6; ++i) scales_[i * lanes + lane] = values[i];
    for (int64_t j = 0; j < view_.p; ++j) {
      view_.w[j * lanes + lane] = q.params[j];
      view_.velocity[j * lanes + lane] = *q.moving && view_.has_momentum ? q.velocity[j] : T(0);
    }
    view_.first_loss[lane] = *q.first_loss;
    view_.last_loss[lane] = *q.last_loss;
    view_.moving[lane] = *q.moving ? -1 : 0;
    view_.moved[lane] = *q.moved ? -1 : 0;
    held_[lane] = {&q, q.epochs, 0, q.losses, q.recorded};
    view_.active |= 1u << lane;
  }

  void load_quadratic(int lane, const double* packed) {
    const int64_t p = view_.p;
    double *G = sums_.data() + lane, *c = G + 2 * p * p * lanes, *s = c + 2 * p * lanes;
    for (int64_t part = 0; part < PackedQuadratic<T>::parts; ++part) {
      for (int64_t a = 0; a < p; ++a)
        for (int64_t b = a; b < p; ++b) G[(a * p + b) * lanes] = G[(b * p + a) * lanes] = *packed++;
      for (int64_t a = 0; a < p; ++a) c[a * lanes] = *packed++;
      *s = *packed++;
      G += p * p * lanes;
      c += p * lanes;
      s += lanes;
    }
  }

  // Runs all lanes until one may end or has done its epochs; those are free then.
  void run() {
    int64_t epochs = most_epochs;
    for (int lane = 0; lane < lanes; ++lane)
      if (holds(lane)) epochs = std::min(epochs, held_[lane].left);
    if (view_.on_rows) view_.rows = panel_.view(view_.active);
    unsigned ending;
    const int64_t done = isa<T>().descend_lanes(view_, epochs, &ending);
    for (int lane = 0; lane < lanes; ++lane) {
      if (!holds(lane)) continue;
      record(lane, done);
      const bool ends = ending >> lane & 1;
      if (ends || held_[lane].left == 0) unload(lane, ends, losses_[done * lanes + lane]);
    }
  }

  bool holds(int lane) const { return view_.active >> lane & 1; }

  void record(int lane, int64_t epochs) {
    Held& held = held_[lane];
    const DescentArgs<T>& q = *held.descent;
    const int64_t first = *q.epoch + held.done;
    held.done += epochs;
    held.left -= epochs;
    if (q.every == 0) return;
    for (int64_t e = 0; e < epochs; ++e) {
      if ((first + e + 1) % q.every != 0) continue;
      if (held.losses) *held.losses++ = losses_[e * lanes + lane];
      for (int64_t j = 0; held.recorded && j < view_.p; ++j)
        *held.recorded++ = records_[(e * view_.p + j) * lanes + lane];
    }
  }

  void unload(int lane, bool ends, T loss) {
    const Held& held = held_[lane];
    const DescentArgs<T>& q = *held.descent;
    view_.active &= ~(1u << lane);
    *q.may_end = ends;
    if (q.loss) *q.loss = loss;
    if (held.done == 0) return;
    for (int64_t j = 0; j < view_.p; ++j) {
      q.params[j] = view_.w[j * lanes + lane];
      q.previous[j] = view_.previous[j * lanes + lane];
      if (view_.has_momentum) q.velocity[j] = view_.velocity[j * lanes + lane];
    }
    *q.first_loss = view_.first_loss[lane];
    *q.last_loss = view_.last_loss[lane];
    *q.moving = view_.moving[lane] != 0;
    *q.moved = view_.moved[lane] != 0;
    *q.epoch += held.done;
  }

  struct Held {
    const DescentArgs<T>* descent;
    int64_t left, done;  // epochs
    T *losses, *recorded;
  };

  bool shaped_ = false;
  LanePanel<T> panel_;
  DescentLanes<T> view_{};
  std::vector<double> sums_, scales_;
  std::vector<T> params_, losses_, records_;
  std::vector<int64_t> flags_;
  Held held_[lanes] = {};
};

// What a thread keeps from call to call, so that small fits allocate nothing.
template <class T>
struct DescentMemory {
  DescentLanesOf<T> on_quadratics, on_rows;
  PlainDescents<T> plain{cpu_device<T>(), cpu::quadratic<T>};
};
template <class T>
DescentMemory<T>& descent_memory() {
  thread_local DescentMemory<T> memory;
  return memory;
}

template <class T>
int64_t work_of(const DescentArgs<T>& q) {
  const LinearArgs<T>& rows = q.rows.args;
  const int64_t each = q.quadratic ? q.size * q.size : 2 * rows.n * rows.t * (rows.d + 2);
  return (q.epochs + 1) * (each + 16);
}

// work(begin, end) for parts of [0, count), whoever is free.
template <class Work>
void share(int64_t count, int64_t total_work, Work&& work) {
  const int64_t tasks = ceil_div(count, lanes);
  const Team threads = threads_for(tasks, total_work);
  if (threads == 1) return work(0, count);
  const int64_t part = lanes * std::max<int64_t>(1, tasks / (8 * threads));
  std::atomic<int64_t> next{0};
  parallel_for(threads, threads, [&](int64_t, int64_t, int) {
    for (int64_t begin; (begin = next.fetch_add(part)) < count;)
      work(begin, std::min(count, begin + part));
  });
}

}  // namespace

template <class T>
void moments_each(int64_t count, const ProblemRows<T>* problems, Moments* moments) {
  int64_t work = 0, most_rows = 0;
  for (int64_t i = 0; i < count; ++i) {
    const LinearArgs<T>& args = problems[i].args;
    work += args.n * (args.d + 2) * (args.d + 2 * args.t);
    most_rows = std::max(most_rows, std::min(args.n, L<T>));
  }
  share(count, work, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end;) {
      int64_t held = 0;
      while (i + held < end && held < lanes && MomentLanes<T>::serve(problems[i + held].args) &&
             problems[i + held].args.d == problems[i].args.d)
        ++held;
      if (held > 0)
        moment_lanes<T>().run(held, problems + i, most_rows, moments + i);
      else
        moments_of(problems[i], moments[i]);
      i += std::max<int64_t>(held, 1);
    }
  });
}

template <class T>
void descend_each(int64_t count, const DescentArgs<T>* descents) {
  int64_t work = 0, most_rows = 0;
  for (int64_t i = 0; i < count; ++i) {
    work += work_of(descents[i]);
    most_rows = std::max(most_rows, std::min(descents[i].rows.args.n, L<T>));
  }
  share(count, work, [&](int64_t begin, int64_t end) {
    DescentMemory<T>& memory = descent_memory<T>();
    memory.on_quadratics.start();
    memory.on_rows.start();
    for (int64_t i = begin; i < end; ++i) {
      const DescentArgs<T>& q = descents[i];
      const bool in_lane =
          DescentLanesOf<T>::serve(q) && count >= DescentLanesOf<T>::least_count(q);
      if (!in_lane)
        memory.plain.run(q);
      else
        (q.quadratic ? memory.on_quadratics : memory.on_rows).add(q, most_rows);
    }
    memory.on_quadratics.drain();
    memory.on_rows.drain();
  });
}

#define GDCORE_INSTANTIATE(T)                                              \
  template void moments_each<T>(int64_t, const ProblemRows<T>*, Moments*); \
  template void descend_each<T>(int64_t, const DescentArgs<T>*);
GDCORE_INSTANTIATE(float)
GDCORE_INSTANTIATE(double)

}  // namespace gdcore::cpu
