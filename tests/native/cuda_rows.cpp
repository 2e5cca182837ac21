#include "cuda_operations.hpp"

#include <limits>
#include <optional>
#include <utility>

#include "cuda/fold.hpp"

namespace gdcore::check {
namespace {

// Options of a case.
enum Option : unsigned {
  with_offset = 1,
  with_weights = 2,
  with_intercept = 4,
  shuffled = 8,
  without_y = 16,
  huber = 32,
  standardised = 64,
  by_columns = 128,
  strided = 256,
  special = 512,
};

// A matrix whose elements lie as the options say, on the host and on the device.
template <class T>
struct Both {
  std::vector<T> host;
  OnDevice<T> device;
  int64_t rs, cs;

  Both(std::vector<T> values, int64_t rows, int64_t columns, unsigned options)
      : host(placed(values, rows, columns, options)), device(host) {
    const int64_t step = options & strided ? 2 : 1;
    rs = options & by_columns ? 1 : step * columns + (options & strided ? 3 : 0);
    cs = options & by_columns ? rows : step;
  }
  Matrix<const T> on_host() const { return {host.data(), rs, cs}; }
  Matrix<const T> on_device() const { return {device.data(), rs, cs}; }

 private:
  static std::vector<T> placed(const std::vector<T>& values, int64_t rows, int64_t columns,
                               unsigned options) {
    const int64_t step = options & strided ? 2 : 1;
    const int64_t rs = options & by_columns ? 1 : step * columns + (options & strided ? 3 : 0);
    const int64_t cs = options & by_columns ? rows : step;
    std::vector<T> to(static_cast<size_t>(rows * (step * columns + 3) + 1),
                      std::numeric_limits<T>::quiet_NaN());
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < columns; ++j)
        to[static_cast<size_t>(i * rs + j * cs)] = values[static_cast<size_t>(i * columns + j)];
    return to;
  }
};

// Infinities, NaN, zeros of both signs and subnormal numbers among the values.
template <class T>
void make_special(std::vector<T>& values) {
  using Limits = std::numeric_limits<T>;
  const T kinds[] = {Limits::infinity(),   -Limits::infinity(), Limits::quiet_NaN(), T(0), -T(0),
                     Limits::denorm_min(), -Limits::min() / 3};
  for (size_t i = 0; i < values.size(); ++i)
    if (i % 29 == 7) values[i] = kinds[i / 29 % 7];
}

template <class T>
struct Data {
  int64_t rows, n, d, t, first;
  unsigned options;
  Both<T> X, y, offset, weight;
  std::vector<T> weights, intercept;
  OnDevice<T> device_weights, device_intercept;
  std::vector<double> scaling;
  Permutation order;

  Data(int64_t n_, int64_t d_, int64_t t_, unsigned options_, int64_t first_ = 0)
      : rows(n_ + first_),
        n(n_),
        d(d_),
        t(t_),
        first(first_),
        options(options_),
        X(values(rows * d, 5), rows, d, options),
        y(values(rows * t, 6), rows, t, options),
        offset(values(rows * t, 7), rows, t, options & ~by_columns),
        weight(positive(rows, 8), rows, 1, options & ~by_columns),
        weights(draw<T>(d * t, 9, 4)),
        intercept(draw<T>(t, 10, 4)),
        device_weights(weights),
        device_intercept(intercept),
        order(rows, 77, 3) {
    if (options & standardised) {
      for (double x : draw<double>(d, 11, 4)) scaling.push_back(x);
      for (double x : draw<double>(d + t, 12, 4)) scaling.push_back(x);
    }
    cuda::synchronize();  // fits have a stream of their own, which does not wait for this one
  }
  std::vector<T> values(int64_t count, unsigned seed) const {
    std::vector<T> v = draw<T>(count, seed + static_cast<unsigned>(d), options & special ? 24 : 12);
    if (options & special && seed != 6) make_special(v);
    return v;
  }
  std::vector<T> positive(int64_t count, unsigned seed) const {
    std::vector<T> v = draw<T>(count, seed, 8);
    for (size_t i = 0; i < v.size(); ++i) v[i] = i % 13 == 5 ? T(0) : std::fabs(v[i]);
    return v;
  }

  LinearArgs<T> args(bool device, bool device_parameters) const {
    const auto matrix = [&](const Both<T>& m) { return device ? m.on_device() : m.on_host(); };
    LinearArgs<T> a{};
    a.n = n, a.d = d, a.t = t, a.first = first;
    a.X = matrix(X);
    if (!(options & without_y)) a.y = matrix(y);
    if (options & with_offset) a.offset = matrix(offset);
    if (options & with_weights) a.sample_weight = {matrix(weight).data, matrix(weight).rs};
    a.weights = {device_parameters ? device_weights.data() : weights.data(), t, 1};
    if (options & with_intercept)
      a.intercept = {device_parameters ? device_intercept.data() : intercept.data(), 1};
    if (options & shuffled) a.order = &order;
    if (options & standardised) a.scaling = scaling.data();
    if (options & huber) a.loss = {1, 0.75};
    return a;
  }
};

template <class T>
const char* name() {
  return sizeof(T) == 4 ? "f32" : "f64";
}

bool same_sums(const LinearSums& a, const LinearSums& b) {
  return same(a.squares, b.squares) && same(a.sample_weight, b.sample_weight) &&
         same(a.weights, b.weights) && same(a.intercept, b.intercept);
}

// A pass over all segments, in calls that end at `cuts`.
template <class T>
void one_pass(int64_t n, int64_t d, int64_t t, unsigned options, std::vector<int64_t> cuts = {},
              int64_t first = 0) {
  if (is_skipped()) return;
  const Data<T> data(n, d, t, options, first);
  const int64_t segments = ceil_div(n, L<T>);
  LinearSums expected, got;
  expected.reset(d, t);
  got.reset(d, t);
  reference_device<T>().linear(data.args(false, false), 0, segments, expected);
  expected.close();
  cuts.push_back(segments);
  int64_t from = 0;
  for (int64_t to : cuts) {
    cuda_device<T>().linear(data.args(true, false), from, to, got);
    from = to;
  }
  got.close();
  expect(same_sums(expected, got), "linear %s: n %ld, d %ld, t %ld, options %u, %zu calls",
         name<T>(), long(n), long(d), long(t), options, cuts.size());
}

// Several problems at once: `even` ones lie one step apart, the others anywhere.
template <class T>
void each(int64_t count, int64_t n, int64_t d, int64_t t, unsigned options, bool even,
          Reduction reduction) {
  if (is_skipped()) return;
  const T unset = std::numeric_limits<T>::quiet_NaN();
  const int64_t rows = n + 1;
  const Data<T> data(count * rows, d, t, options & ~shuffled);
  const Permutation order(n, 5, 1);
  const auto entries = static_cast<size_t>(count * d * t);
  const auto targets = static_cast<size_t>(count * t);
  std::vector<T> loss(static_cast<size_t>(count), unset), weights(entries, unset),
      intercept(targets, unset);
  const OnDevice<T> got_loss(loss), got_weights(weights), got_intercept(intercept);
  std::vector<double> elements(static_cast<size_t>(count)), got_elements(elements);
  std::vector<LossArgs<T>> a, b;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t at = even ? i : (i * i) % count;
    const auto moved = [&](bool device) {
      LinearArgs<T> args = data.args(device, device);
      args.n = n;
      args.X.data += at * rows * args.X.rs;
      if (args.y.data) args.y.data += at * rows * args.y.rs;
      if (args.offset.data) args.offset.data += at * rows * args.offset.rs;
      if (args.sample_weight.data) args.sample_weight.data += at * rows * args.sample_weight.stride;
      args.order = options & shuffled ? &order : nullptr;
      return args;
    };
    T* const none = nullptr;
    const bool has = options & with_intercept;
    a.push_back({moved(false), reduction, loss.data() + i, weights.data() + i * d * t,
                 has ? intercept.data() + i * t : none, &elements[static_cast<size_t>(i)]});
    b.push_back({moved(true), reduction, got_loss.data() + i, got_weights.data() + i * d * t,
                 has ? got_intercept.data() + i * t : none, &got_elements[static_cast<size_t>(i)]});
  }
  reference_device<T>().linear_each(count, a.data());
  cuda_device<T>().linear_each(count, b.data());
  cuda::synchronize();
  const bool known = options & with_weights || same(elements, got_elements);
  expect(known && same(loss, got_loss.host()) && same(weights, got_weights.host()) &&
             same(intercept, got_intercept.host()),
         "linear_each %s: %ld problems, n %ld, d %ld, t %ld, options %u, even %d", name<T>(),
         long(count), long(n), long(d), long(t), options, even);
}

// Combinations of options, a few at a time.
constexpr unsigned mixes[] = {
    with_intercept,
    with_offset | with_weights | with_intercept,
    shuffled | with_weights | huber,
    without_y | strided | with_offset,
    standardised | with_intercept | with_weights,
    by_columns | with_intercept | huber,
    special | with_intercept | with_weights,
    standardised | shuffled | by_columns | with_offset | huber,
    strided | special | shuffled | with_weights,
};

template <class T>
void single_target() {
  size_t mix = 0;
  for (int64_t d : {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17})
    for (int64_t n : {0, 1, 15, 16, 17, 33, 511, 512, 513, 1600})
      one_pass<T>(n, d, 1, mixes[mix++ % std::size(mixes)], {}, n % 3);
  for (int64_t d : {31, 32, 33, 40, 64, 100, 129, 513, 1025, 3400})
    for (int64_t n : {1, 17, 512, 530})
      one_pass<T>(n, d, 1, mixes[mix++ % std::size(mixes)], {}, n % 3);
  for (unsigned options : mixes) {
    one_pass<T>(1111, 3, 1, options, {1, 2});
    one_pass<T>(1111, 11, 1, options, {1});
    one_pass<T>(1111, 37, 1, options, {2});
    one_pass<T>(20, 3400, 1, options);
  }
  one_pass<T>(262144 + 600, 1, 1, with_weights | with_intercept);
  one_pass<T>(262144 + 600, 1, 1, with_weights | with_intercept, {1, 100, 511, 512});
  one_pass<T>(262144 + 600, 2, 1, with_offset, {511, 513});
  one_pass<T>(2, 262144 + 600, 1, with_intercept);
  each<T>(3, 5, 3400, 1, with_intercept | with_weights, false, Reduction::mean);
  for (int64_t d : {0, 1, 3, 6, 20})
    for (int64_t n : {0, 1, 40, 600})
      for (bool even : {true, false}) {
        ++mix;
        each<T>(7, n, d, 1, mixes[mix % std::size(mixes)] & ~by_columns, even,
                static_cast<Reduction>(mix % 4));
      }
  each<T>(2, 262144 + 600, 1, 1, with_weights | with_intercept, true, Reduction::mean);
}

template <class T>
void several_targets() {
  size_t mix = 0;
  const auto next = [&] { return mixes[mix++ % std::size(mixes)]; };
  for (int64_t t : {2, 3, 17})
    for (int64_t d : {0, 1, 4, 9, 33})
      for (int64_t n : {0, 1, 17, 512, 700}) one_pass<T>(n, d, t, next(), {}, n % 3);
  for (unsigned options : mixes) one_pass<T>(1111, 3, 2, options, {1, 2});
  one_pass<T>(140, 513, 3, with_weights | with_intercept);
  one_pass<T>(262144 + 600, 1, 2, with_weights | with_intercept, {100, 511});
  for (int64_t d : {0, 3, 20})
    for (int64_t n : {0, 1, 40, 600})
      for (bool even : {true, false})
        each<T>(5, n, d, 2 + d % 2, next() & ~by_columns, even, static_cast<Reduction>(mix % 4));
  each<T>(1, 262144 + 600, 1, 2, with_weights | with_intercept, true, Reduction::mean);
  each<T>(2, 262144 + 600, 1, 2, with_offset, true, Reduction::half_mean);
}

bool same_moments(const Moments& a, const Moments& b) {
  return a.d == b.d && a.t == b.t && same(a.hi, b.hi) && same(a.lo, b.lo);
}

template <class T>
void moments_pass(int64_t n, int64_t d, int64_t t, unsigned options, std::vector<int64_t> cuts = {},
                  int64_t first = 0) {
  if (is_skipped()) return;
  const Data<T> data(n, d, t, options & ~(shuffled | without_y), first);
  const int64_t segments = ceil_div(n, L<T>);
  Moments expected, got;
  expected.reset(d, t);
  got.reset(d, t);
  cuts.push_back(segments);
  int64_t from = 0;
  for (int64_t to : cuts) {  // closed in between: passes continue from any state
    reference_device<T>().moments(data.args(false, false), from, to, expected);
    cuda_device<T>().moments(data.args(true, false), from, to, got);
    if (from % 2 == 1) {
      expected.close();
      got.close();
    }
    from = to;
  }
  expected.close();
  got.close();
  expect(same_moments(expected, got), "moments %s: n %ld, d %ld, t %ld, options %u, %zu calls",
         name<T>(), long(n), long(d), long(t), options, cuts.size());
}

// Rows of a table in lists: the problem's own, or one after the other.
std::vector<int64_t> list_of_rows(int64_t count, int64_t rows, uint64_t seed) {
  std::vector<int64_t> list;
  const Permutation order(rows, seed, 0);
  for (int64_t i = 0; i < count; ++i) list.push_back(order(i % rows));
  return list;
}

template <class T>
void moments_of_each(std::vector<int64_t> sizes, int64_t d, int64_t t, unsigned options,
                     bool listed, bool together) {
  if (is_skipped()) return;
  int64_t rows = 0;
  for (int64_t n : sizes) rows += n;
  const Data<T> data(rows, d, t, options & ~(shuffled | without_y));
  const std::vector<int64_t> list = list_of_rows(rows + 100, rows, 3);
  std::vector<ProblemRows<T>> a, b;
  int64_t begin = 0;
  for (int64_t n : sizes) {
    const auto problem = [&](bool device) {
      ProblemRows<T> p{data.args(device, device), {}};
      p.args.n = n;
      if (listed) {
        p.order = {list.data() + (together ? begin : 100 - begin % 100), list.data() + rows + 100};
        return p;
      }
      p.args.X.data += begin * p.args.X.rs;
      p.args.y.data += begin * p.args.y.rs;
      if (p.args.offset.data) p.args.offset.data += begin * p.args.offset.rs;
      if (p.args.sample_weight.data)
        p.args.sample_weight.data += begin * p.args.sample_weight.stride;
      return p;
    };
    a.push_back(problem(false));
    b.push_back(problem(true));
    if (together)
      begin += n;
    else
      begin += n % 7;
  }
  const auto count = static_cast<int64_t>(sizes.size());
  std::vector<Moments> expected(sizes.size()), got(sizes.size());
  reference_device<T>().moments_each(count, a.data(), expected.data());
  cuda_device<T>().moments_each(count, b.data(), got.data());
  bool ok = true;
  for (size_t i = 0; i < sizes.size(); ++i) ok = ok && same_moments(expected[i], got[i]);
  expect(ok, "moments_each %s: %ld problems, d %ld, t %ld, options %u, listed %d, together %d",
         name<T>(), long(count), long(d), long(t), options, listed, together);
}

template <class T>
void all_moments() {
  size_t mix = 0;
  const auto next = [&] { return mixes[mix++ % std::size(mixes)]; };
  for (int64_t d : {0, 1, 2, 3, 4, 5, 8, 15, 16, 17, 40})
    for (int64_t n : {0, 1, 7, 8, 9, 511, 512, 513, 1100})
      for (int64_t t : {1, 3}) moments_pass<T>(n, d, t, next(), {}, n % 3);
  for (int64_t d : {87, 125, 126, 127, 128, 129, 200})
    for (int64_t n : {3, 530}) moments_pass<T>(n, d, 1 + n % 2, next(), {}, n % 3);
  moments_pass<T>(20, 513, 1, with_weights);
  moments_pass<T>(2222, 5, 2, with_weights | with_offset, {1, 2, 4});
  moments_pass<T>(262144 + 600, 1, 1, with_weights, {511, 513});
  moments_pass<T>(262144 + 600, 1, 1, with_offset);
  for (int64_t d : {1, 4, 9})
    for (int t : {1, 2})
      for (bool listed : {false, true})
        for (bool together : {false, true})
          moments_of_each<T>({5, 64, 0, 513, 1, 64, 64, 1030, 8}, d, t, next(), listed, together);
  moments_of_each<T>({3, 262144 + 600, 70}, 1, 1, with_weights, true, true);
  moments_of_each<T>(std::vector<int64_t>(300, 13), 2, 1, with_offset, false, true);
}

template <class T>
void fetched(int64_t n, int64_t d, int64_t t, unsigned options, bool listed) {
  if (is_skipped()) return;
  const Data<T> data(n, d, t, options);
  const std::vector<int64_t> list = list_of_rows(n, n, 9);
  ProblemRows<T> a{data.args(false, false), {}}, b{data.args(true, true), {}};
  if (listed) a.order = b.order = {list.data(), list.data() + n};
  std::vector<T> expected(static_cast<size_t>(n * (d + 2 * t + 1) + 1), T(7)), got(expected);
  reference_device<T>().fetch(a, expected.data());
  cuda_device<T>().fetch(b, got.data());
  expect(same(expected, got), "fetch %s: n %ld, d %ld, t %ld, options %u, listed %d", name<T>(),
         long(n), long(d), long(t), options, listed);
}

template <class T>
void all_fetched() {
  for (int64_t n : {0, 1, 300})
    for (int64_t d : {0, 1, 5})
      for (unsigned options : mixes)
        for (bool listed : {false, true}) fetched<T>(n, d, 1 + d % 3, options, listed);
}

// The same in many waves of few segments.
template <class T>
void in_small_waves() {
  const int64_t before = std::exchange(cuda::wave_bytes, 1 << 13);
  for (unsigned options : mixes) {
    one_pass<T>(20000, 3, 1, options, {7});
    one_pass<T>(7000, 2, 3, options, {3});
    moments_pass<T>(20000, 3, 1, options, {7});
    each<T>(20, 40, 3, 1, options & ~by_columns, true, Reduction::sum);
    each<T>(3, 3000, 2, 2, options & ~by_columns, false, Reduction::half_sum);
    fetched<T>(1000, 5, 1, options, true);
  }
  cuda::wave_bytes = 1 << 17;
  one_pass<T>(262144 + 9000, 1, 2, with_weights, {100});
  each<T>(1, 262144 + 9000, 1, 2, with_weights | with_intercept, true, Reduction::mean);
  moments_pass<T>(262144 + 9000, 1, 1, with_offset, {100});
  for (bool listed : {false, true})
    moments_of_each<T>({5, 3000, 64, 0, 64, 513}, 3, 1, with_weights, listed, true);
  cuda::wave_bytes = before;
}

}  // namespace

void rows() {
  single_target<float>();
  single_target<double>();
  several_targets<float>();
  several_targets<double>();
  all_moments<float>();
  all_moments<double>();
  all_fetched<float>();
  all_fetched<double>();
  in_small_waves<float>();
  in_small_waves<double>();
}

}  // namespace gdcore::check
