// Descents against the reference loops: everything that they leave behind.
#include "cuda_operations.hpp"

#include <deque>
#include <limits>

#include "packed_quadratic.hpp"

namespace gdcore::check {
namespace {

// What is varied over the descents of one call.
struct Options {
  SgdOptions sgd;
  double norm_bound = -1;
  bool stop_on_equal_loss = false;
  int64_t every = 0;
  bool records_params = false, measures_end = true;
};

// The state of a descent, and all that it writes.
template <class T>
struct State {
  std::vector<T> params, velocity, previous, losses, recorded;
  T first_loss, last_loss, loss = T(-1);
  uint8_t moving, moved, may_end = 9;
  int64_t epoch;
  int64_t unmeasured = -1;  // the epoch at which nothing asks whether the next may be the last

  bool same_as(const State& o) const {
    return same(params, o.params) && same(velocity, o.velocity) && same(previous, o.previous) &&
           same(losses, o.losses) && same(recorded, o.recorded) && same(first_loss, o.first_loss) &&
           same(last_loss, o.last_loss) && same(loss, o.loss) && moving == o.moving &&
           moved == o.moved && epoch == o.epoch && (may_end == o.may_end || epoch == unmeasured);
  }
};

template <class T>
State<T> start(int64_t size, unsigned seed, const Options& options, int64_t epochs) {
  State<T> s;
  s.params = draw<T>(size, seed, 4);
  s.velocity = draw<T>(size, seed + 1, 4);
  s.previous = draw<T>(size, seed + 2, 4);
  const bool fresh = seed % 3 == 0;  // otherwise it goes on
  s.epoch = fresh ? 0 : static_cast<int64_t>(seed % 11);
  s.moving = !fresh && options.sgd.momentum != 0;
  if (!options.measures_end) s.unmeasured = s.epoch + epochs;
  s.moved = seed % 5 != 0;
  s.first_loss = fresh ? std::numeric_limits<T>::quiet_NaN() : T(7);
  s.last_loss = fresh ? std::numeric_limits<T>::quiet_NaN() : T(0.5);
  const auto records = static_cast<size_t>(options.every == 0 ? 0 : epochs / options.every + 1);
  s.losses.assign(records, T(-3));
  s.recorded.assign(options.records_params ? records * static_cast<size_t>(size) : 0, T(-3));
  return s;
}

template <class T>
DescentArgs<T> args_of(State<T>& s, const LinearArgs<T>& rows, const Options& options,
                       int64_t epochs, double lr) {
  DescentArgs<T> q{};
  q.rows.args = rows;
  q.size = static_cast<int64_t>(s.params.size());
  q.rows.args.weights = {s.params.data(), rows.t, 1};
  if (q.size > rows.d * rows.t) q.rows.args.intercept = {s.params.data() + rows.d * rows.t, 1};
  q.scale = scale_of(Reduction::mean, static_cast<double>(rows.n * rows.t));
  q.sgd = options.sgd;
  q.decayed = options.sgd.decay_intercept ? q.size : rows.d * rows.t;
  q.lr = lr;
  q.norm_bound = options.norm_bound;
  q.stop_on_equal_loss = options.stop_on_equal_loss;
  q.params = s.params.data();
  q.velocity = options.sgd.momentum != 0 ? s.velocity.data() : nullptr;
  q.previous = s.previous.data();
  q.first_loss = &s.first_loss;
  q.last_loss = &s.last_loss;
  q.moving = &s.moving;
  q.moved = &s.moved;
  q.epoch = &s.epoch;
  q.epochs = epochs;
  q.every = options.every;
  q.losses = options.every > 0 ? s.losses.data() : nullptr;
  q.recorded = options.records_params ? s.recorded.data() : nullptr;
  q.loss = options.measures_end ? &s.loss : nullptr;
  q.may_end = &s.may_end;
  return q;
}

std::vector<Options> all_options() {
  std::vector<Options> all(9);
  all[1].sgd.momentum = 0.9;
  all[1].norm_bound = 0;
  all[1].every = 1;
  all[2].sgd = {0.8, 0.0, 0.01, true, false, false};
  all[2].records_params = true;
  all[2].every = 3;
  all[3].sgd = {0.5, 0.25, 0.1, false, false, true};
  all[3].norm_bound = 0.05;
  all[3].measures_end = false;
  all[4].sgd = {0.0, 0.0, 0.3, false, false, false};
  all[4].stop_on_equal_loss = true;
  all[4].norm_bound = 1e-3;
  all[5].sgd.maximize = true;
  all[5].sgd.weight_decay = 0.5;
  all[5].norm_bound = 1;
  all[5].every = 2;
  all[6].sgd = {0.9, 0.0, 0.05, true, true, true};
  all[6].measures_end = false;
  all[6].every = 1;
  all[6].records_params = true;
  all[7].norm_bound = 0;
  all[7].stop_on_equal_loss = true;
  all[8].norm_bound = 1e30;
  return all;
}

// Sums as pairs, packed; now and then with something out of the ordinary, and often with all of y
// explained at `solution`: what is left there are the roundings, in their order.
template <class T>
std::vector<double> packed_sums(const std::vector<T>& solution, unsigned seed) {
  constexpr int64_t n = 24;
  const auto p = static_cast<int64_t>(solution.size()), columns = p + 1;
  std::vector<double> x = draw<double>(n * columns, seed, 3), high, low;
  const auto put = [&](long double sum) {
    high.push_back(static_cast<double>(sum));
    low.push_back(static_cast<double>(sum - static_cast<long double>(high.back())));
  };
  const auto product = [&](int64_t a, int64_t b) {
    long double sum = 0;
    for (int64_t i = 0; i < n; ++i)
      sum += static_cast<long double>(x[i * columns + a]) * x[i * columns + b];
    return sum;
  };
  for (int64_t i = 0; i < n && seed % 3 > 0; ++i) {
    x[i * columns + p] = 0;
    for (int64_t a = 0; a < p; ++a) x[i * columns + p] += x[i * columns + a] * solution[a];
  }
  for (int64_t a = 0; a < p; ++a)
    for (int64_t b = a; b < p; ++b) put(product(a, b));
  for (int64_t a = 0; a <= p; ++a) put(product(a, p));
  const size_t some = seed % high.size();
  if (seed % 17 == 1) high[some] = std::numeric_limits<double>::infinity();
  if (seed % 17 == 2) high[some] = std::numeric_limits<double>::quiet_NaN();
  if (seed % 17 == 3) high.assign(high.size(), 0.0);
  if (seed % 17 == 3) low.assign(high.size(), 0.0);
  if (seed % 17 == 4) high.back() = -1;  // a sum of squares below 0
  if (sizeof(T) == 8) high.insert(high.end(), low.begin(), low.end());
  return high;
}

// Rates that converge, crawl and diverge.
double rate_of(unsigned seed) {
  const double rates[] = {0.5, 0.05, 0.2, 1e-12, 40, 1e200, 0.1};
  return rates[seed % 7];
}

template <class T>
void compare(const char* what, int64_t d, size_t which, const std::vector<State<T>>& got,
             const std::vector<State<T>>& expected) {
  for (size_t i = 0; i < got.size(); ++i)
    expect(got[i].same_as(expected[i]), "%s f%zu: %lld, options %zu, descent %zu of %zu", what,
           8 * sizeof(T), static_cast<long long>(d), which, i, got.size());
}

template <class T>
void on_quadratics() {
  const std::vector<Options> all = all_options();
  const OnDevice<T> rows_there(draw<T>(64, 1));  // whose rows they are is all that is asked
  for (const int64_t p : {1, 2, 3, 4, 5, 6, 7, 8, 9, 31, 64, 65})
    for (size_t which = 0; which < all.size(); ++which) {
      if (is_skipped()) continue;
      const auto count = static_cast<unsigned>(p > 9 ? 65 : p % 2 ? 193 : 256);
      LinearArgs<T> rows{};
      rows.n = 24;
      rows.d = p == 1 ? 1 : p - p % 2;
      rows.t = 1;
      rows.X = rows.y = {rows_there.data(), 1, 1};
      const auto epochs_of = [p](unsigned i) {
        return int64_t{i % 13 == 5 ? 0 : p > 9 ? 3 + i % 7 : 30 + i % 41};
      };
      std::vector<State<T>> got, expected;
      std::vector<std::vector<double>> sums;
      std::vector<DescentArgs<T>> theirs, ours;
      for (unsigned i = 0; i < count; ++i) {
        got.push_back(start<T>(p, 31 * i + static_cast<unsigned>(p), all[which], epochs_of(i)));
        sums.push_back(packed_sums(got.back().params, i + 7));
      }
      expected = got;
      for (unsigned i = 0; i < count; ++i) {
        ours.push_back(args_of(got[i], rows, all[which], epochs_of(i), rate_of(i)));
        theirs.push_back(args_of(expected[i], rows, all[which], epochs_of(i), rate_of(i)));
        ours.back().quadratic = theirs.back().quadratic = sums[i].data();
      }
      reference_device<T>().descend_each(count, theirs.data());
      cuda_device<T>().descend_each(count, ours.data());
      compare("quadratics", p, which, got, expected);
    }
}

// Problems of different numbers of rows in one table.
template <class T>
void on_rows() {
  const std::vector<Options> all = all_options();
  constexpr int64_t table = 1700;
  const int64_t sizes[] = {1, 2, 15, 16, 17, 64, 511, 512, 513, 1100, 1600};
  for (const int64_t d : {0, 1, 2, 3, 4, 5, 8, 16, 17, 33})
    for (size_t which = 0; which < all.size(); ++which) {
      if (is_skipped()) continue;
      const unsigned seed = static_cast<unsigned>(100 * d) + static_cast<unsigned>(which);
      const bool intercept = d == 0 || which % 2 == 0;
      std::vector<T> X = draw<T>(table * std::max<int64_t>(d, 1), seed, 3),
                     y = draw<T>(table, seed + 1, 3), offset = draw<T>(table, seed + 2, 3),
                     weight = draw<T>(table, seed + 3, 3);
      for (T& w : weight) w = std::fabs(w);
      if (which == 5) X[X.size() / 2] = std::numeric_limits<T>::infinity();
      if (which == 6) y[table / 3] = std::numeric_limits<T>::quiet_NaN();
      std::vector<double> scaling = draw<double>(2 * d + 1, seed + 4, 3);
      std::vector<int64_t> order(table);
      for (int64_t i = 0; i < table; ++i) order[i] = (i * 37 + 5) % table;
      const OnDevice<T> X_there(X), y_there(y), offset_there(offset), weight_there(weight);
      const bool transposed = which % 3 == 2;
      const auto view = [&](const T* data) {
        return transposed ? Matrix<const T>{data, 1, table} : Matrix<const T>{data, d, 1};
      };
      std::vector<State<T>> got, expected;
      const unsigned count = 23;
      const auto size_of = [&](unsigned i) {
        return which < 2 || i % 2 ? sizes[i % 11] : sizes[(i + which) % 8];
      };
      for (unsigned i = 0; i < count; ++i)
        got.push_back(start<T>(d + intercept, 31 * i + seed, all[which], i % 7));
      expected = got;
      std::vector<DescentArgs<T>> theirs, ours;
      for (unsigned i = 0; i < count; ++i) {
        LinearArgs<T> here{};
        here.n = size_of(i);
        here.d = d;
        here.t = 1;
        here.X = view(X.data());
        here.y = {y.data(), 1, 1};
        LinearArgs<T> there = here;
        there.X = view(X_there.data());
        there.y.data = y_there.data();
        const int64_t first = static_cast<int64_t>(3 * i);
        const bool ordered = (i + which) % 3 == 0;
        const auto shift = [&](LinearArgs<T>& rows, const T* o, const T* w) {
          if (i % 4 == 1) rows.offset = {o, 1, 1};
          if (which == 3) rows.sample_weight = {w, 1};
          if (i % 4 == 2) rows.scaling = scaling.data();
          if (which == 4) rows.loss = {1, 0.75};
          if (ordered) return;
          rows.X.data += first * rows.X.rs;
          rows.y.data += first;
          if (rows.offset.data) rows.offset.data += first;
          if (rows.sample_weight.data) rows.sample_weight.data += first;
        };
        shift(here, offset.data(), weight.data());
        shift(there, offset_there.data(), weight_there.data());
        const int64_t epochs = i % 7;
        theirs.push_back(args_of(expected[i], here, all[which], epochs, rate_of(i) / 8));
        ours.push_back(args_of(got[i], there, all[which], epochs, rate_of(i) / 8));
        if (ordered)
          ours.back().rows.order =
              theirs.back().rows.order = {order.data() + i, order.data() + table};
        if (ordered) {
          const int64_t most = table - static_cast<int64_t>(i);
          for (auto* q : {&ours.back(), &theirs.back()})
            q->rows.args.n = std::min(q->rows.args.n, most);
        }
      }
      reference_device<T>().descend_each(count, theirs.data());
      cuda_device<T>().descend_each(count, ours.data());
      compare("rows", d, which, got, expected);
    }
}

}  // namespace

void descents() {
  on_quadratics<float>();
  on_quadratics<double>();
  on_rows<float>();
  on_rows<double>();
}

}  // namespace gdcore::check
