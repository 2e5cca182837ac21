// Several descents at a time: small ones of one target side by side in the lanes of vectors, all
// others one after the other. Threads share them.
#include <algorithm>
#include <limits>
#include <vector>

#include "cpu/dispatch.hpp"
#include "cpu/lane_layout.hpp"
#include "cpu/operations.hpp"
#include "cpu/share.hpp"
#include "descend.hpp"
#include "packed_quadratic.hpp"

namespace gdcore::cpu {
namespace {

// Rows of up to `lanes` problems, transposed.
template <class T>
class LanePanel {
 public:
  void shape(int64_t d, int64_t most_rows, bool has_offset) {
    X_.assign(static_cast<size_t>(most_rows * d * lanes), T(0));
    y_.assign(static_cast<size_t>(most_rows * lanes), T(0));
    offset_.assign(has_offset ? y_.size() : 0, T(0));
    std::fill_n(n_, lanes, 0);
    view_ = {d, X_.data(), y_.data(), has_offset ? offset_.data() : nullptr, n_, 0, 0};
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
    T *const to_X = X_.data() + lane, *const to_y = y_.data() + lane;
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
    for (int64_t i = n; i < before; ++i) to_y[i * lanes] = 0;
    n_[lane] = n;
  }

 private:
  std::vector<T> X_, y_, offset_;
  int64_t n_[lanes] = {};
  LaneRows<T> view_{};
};

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
  bool empty() const { return view_.active == 0; }
  bool full() const { return view_.active + 1 == 1u << lanes; }
  bool suits(const DescentArgs<T>& q) const {
    return shaped_ && view_.p == q.size && view_.on_rows == !q.quadratic &&
           (q.quadratic || panel_.suits(q.rows.args)) && view_.decayed == q.decayed &&
           view_.has_momentum == (q.sgd.momentum != 0) && view_.nesterov == q.sgd.nesterov &&
           view_.damped == static_cast<T>(1.0 - q.sgd.dampening) &&
           view_.stop_on_equal_loss == q.stop_on_equal_loss &&
           (!q.recorded || view_.params != nullptr);
  }
  // Takes q beside the descents in the lanes, which are not full; none of them may be of another
  // shape.
  void add(const DescentArgs<T>& q, int64_t most_rows) {
    if (!suits(q)) shape(q, most_rows);
    load(__builtin_ctz(~view_.active), q);
  }

  // Runs all lanes of one or two of these until one may end or has done its epochs; those are free
  // then.
  static void run(DescentLanesOf* each, int count) {
    if (run_quietly(each, count)) return;
    for (int k = 0; k < count; ++k) each[k].run(most_epochs);
  }

 private:
  static constexpr int64_t most_epochs = 256;  // of one run
  static constexpr int64_t parts = PackedQuadratic<T>::parts;

  void shape(const DescentArgs<T>& q, int64_t most_rows) {
    const int64_t p = q.size;
    shaped_ = false;  // until all memory is there
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
    const unsigned bit = 1u << lane;
    quiet_ = may_be_quiet(q) ? quiet_ | bit : quiet_ & ~bit;
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

  // Whether only the parameters that q reaches are of interest, and its numbers are of a size that
  // nothing overflows while they stay near.
  bool may_be_quiet(const DescentArgs<T>& q) const {
    if (!q.quadratic || q.size > most_quiet_params) return false;
    if (q.norm_bound >= 0 || q.stop_on_equal_loss || q.every != 0) return false;
    bool small = q.scale.divisor >= 0x1p-4 && q.scale.gradient <= 0x1p20 &&
                 q.sgd.weight_decay <= 0x1p20 && q.quadratic[sums_of(q.size) - 1] < most_quiet_sum;
    const double* square = q.quadratic;
    for (int64_t a = 0; a < q.size; square += q.size - a++) small &= *square < most_quiet_sum;
    return small;
  }
  static int64_t sums_of(int64_t p) { return PackedQuadratic<T>::packed_size(p, 1) / parts; }

  int64_t fewest_epochs() const {  // that any lane has left
    int64_t fewest = std::numeric_limits<int64_t>::max();
    for (int lane = 0; lane < lanes; ++lane)
      if (holds(lane)) fewest = std::min(fewest, held_[lane].left);
    return fewest;
  }

  // All but the first and the last of the next epochs by quiet_epochs; the two make the rest of the
  // states. False if that is not possible, and nothing is done then.
  static bool run_quietly(DescentLanesOf* each, int count) {
    constexpr int64_t least_epochs = 8;
    int64_t epochs = std::numeric_limits<int64_t>::max();
    for (int k = 0; k < count; ++k) {
      if ((each[k].quiet_ & each[k].view_.active) != each[k].view_.active) return false;
      epochs = std::min(epochs, each[k].fewest_epochs());
    }
    if (epochs < least_epochs) return false;
    bool near = true;
    for (int k = 0; k < count; ++k) near &= each[k].run(1);
    if (!near) return true;  // some lane is free
    DescentLanes<T> views[2];
    for (int k = 0; k < count; ++k) {
      each[k].keep();
      views[k] = each[k].view_;
    }
    near = isa<T>().quiet_epochs(views, count, epochs - 2);
    for (int k = 0; k < count; ++k) near ? each[k].count_epochs(epochs - 2) : each[k].restore();
    for (int k = 0; near && k < count; ++k) each[k].run(1);
    return true;
  }
  void keep() { kept_ = params_; }
  void restore() {  // epoch by epoch then
    std::copy(kept_.begin(), kept_.end(), params_.begin());
    quiet_ = 0;
  }
  void count_epochs(int64_t epochs) {
    for (int lane = 0; lane < lanes; ++lane) {
      if (!holds(lane)) continue;
      held_[lane].done += epochs;
      held_[lane].left -= epochs;
    }
  }

  // At most `most` epochs of all lanes, until one may end or has done its own, which is free then;
  // whether none is.
  bool run(int64_t most) {
    if (view_.on_rows) view_.rows = panel_.view(view_.active);
    unsigned ending;
    const unsigned before = view_.active;
    const int64_t epochs = std::min(most, fewest_epochs());
    const int64_t done = isa<T>().descend_lanes(view_, epochs, &ending);
    for (int lane = 0; lane < lanes; ++lane) {
      if (!holds(lane)) continue;
      record(lane, done);
      const bool ends = ending >> lane & 1;
      if (ends || held_[lane].left == 0) unload(lane, ends, losses_[done * lanes + lane]);
    }
    return view_.active == before;
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
  std::vector<T> params_, losses_, records_, kept_;
  std::vector<int64_t> flags_;
  unsigned quiet_ = 0;  // a bit for each lane that may be
  Held held_[lanes] = {};
};

// Descents of one kind in the lanes of one or two eights.
template <class T>
class Eights {
 public:
  void start() {
    for (DescentLanesOf<T>& eight : eights_) eight.start();
  }
  // Runs q beside those in the lanes; if all lanes are taken, some descents end first.
  void add(const DescentArgs<T>& q, int64_t most_rows) {
    const int count = q.quadratic && q.size <= most_params_in_turns ? 2 : 1;
    bool suit = count == count_;
    for (const DescentLanesOf<T>& eight : eights_) suit &= eight.empty() || eight.suits(q);
    if (!suit) drain();
    count_ = count;
    eights_[eights_[0].full() ? 1 : 0].add(q, most_rows);
    while (eights_[0].full() && (count_ == 1 || eights_[1].full()))
      DescentLanesOf<T>::run(eights_, count_);
  }
  void drain() {
    while (!eights_[1].empty() && !eights_[0].empty()) DescentLanesOf<T>::run(eights_, 2);
    for (DescentLanesOf<T>& eight : eights_)
      while (!eight.empty()) DescentLanesOf<T>::run(&eight, 1);
  }

 private:
  DescentLanesOf<T> eights_[2];
  int count_ = 1;
};

// What a thread keeps from call to call, so that small fits allocate nothing.
template <class T>
struct DescentMemory {
  Eights<T> on_quadratics, on_rows;
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

}  // namespace

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

template void descend_each<float>(int64_t, const DescentArgs<float>*);
template void descend_each<double>(int64_t, const DescentArgs<double>*);

}  // namespace gdcore::cpu
