// Sums over the rows of linear models with one target. Those with several are in targets.cpp.
#include <algorithm>
#include <limits>
#include <vector>

#include "cuda/device_rows.hpp"
#include "cuda/driver.hpp"
#include "cuda/fold.hpp"
#include "cuda/kernels/linear_params.hpp"
#include "cuda/operations.hpp"
#include "cuda/places.hpp"
#include "cuda/targets.hpp"

namespace gdcore::cuda {
namespace {

// How many problems or segments, of `bytes` of partials each, make a wave.
int64_t wave_of(int64_t bytes) { return std::max<int64_t>(1, wave_bytes / bytes); }

// How the kernels share out the work.
struct LinearPlan {
  enum { few, rows, wide } kind;
  int threads, tile_rows;
};
template <class T>
LinearPlan linear_plan(int64_t n, int64_t d) {
  if (d <= 4) return {LinearPlan::few, threads_of_block, 0};
  const auto columns = static_cast<int>(std::min<int64_t>(d, 1 << 20));
  const size_t most = properties(current().ordinal).shared_bytes;
  if (linear_rows_bytes<T>(columns, V) > most) return {LinearPlan::wide, threads_of_block, 0};
  // Several blocks share a multiprocessor: one loads a tile while another adds.
  const size_t target = std::min(most, size_t{d <= V ? 26u << 10 : 52u << 10});
  const int64_t whole = std::min(L<T>, ceil_div(std::max<int64_t>(n, 1), V) * V);
  int tile = V;
  while (tile + V <= whole && linear_rows_bytes<T>(columns, tile + V) <= target) tile += V;
  return {LinearPlan::rows, d <= V ? 128 : threads_of_block, tile};
}

template <class T>
bool loads_rows_packed(const LinearArgs<T>& args) {
  const auto width = static_cast<int64_t>(sizeof(T)) * args.d;
  const auto address = reinterpret_cast<uintptr_t>(args.X.data);
  return (args.d == 1 || args.X.cs == 1) && args.X.rs == args.d && args.d != 3 &&
         address % static_cast<uintptr_t>(std::min<int64_t>(std::max<int64_t>(width, 1), 16)) == 0;
}

template <class T>
LinearParams<T> params_of(const LinearArgs<T>& args, const Scaling& scaling) {
  LinearParams<T> p{};
  p.rows = rows_of(args, scaling);
  p.parameters = args.weights.data;
  p.parameters_rs = args.weights.rs;
  p.intercept = args.intercept.data;
  p.problems = 1;
  p.ordered = args.order != nullptr;
  if (args.order) p.order = *args.order;
  p.n = args.n;
  p.first = args.first;
  p.packed = loads_rows_packed(args);
  return p;
}

// Fills p.partials, (problems, segments, d + 2), and p.weight_sums.
template <class T>
void launch_partials(LinearParams<T>& p) {
  const int64_t units = p.problems * p.segments, d = p.rows.d;
  const LinearPlan plan = linear_plan<T>(p.n, d);
  p.tile_rows = plan.tile_rows;
  const auto run = [&](const char* kernel, int64_t blocks, size_t shared) {
    launch(kernel_of<T>(kernel).c_str(), blocks, plan.threads, shared, p);
  };
  if (plan.kind == LinearPlan::few) {
    run("linear_few", ceil_div(units, plan.threads / V), 0);
  } else if (plan.kind == LinearPlan::rows) {
    run("linear_rows", units, linear_rows_bytes<T>(p.rows.d, plan.tile_rows));
  } else {
    const auto rows = static_cast<size_t>(units * L<T>);
    const Memory slopes(rows * sizeof(T)), row_numbers(rows * sizeof(int64_t));
    p.slopes = slopes.as<T>();
    p.row_numbers = row_numbers.as<int64_t>();
    run("linear_slopes", units, 3 * L<T> * sizeof(T));
    run("linear_columns", units * ceil_div(d, plan.threads), 0);
  }
}

// Device memory for the partials of a wave.
template <class T>
struct LinearPartials {
  Memory sums, weight_sums;

  LinearPartials(int64_t units, int64_t d, bool weighted)
      : sums(static_cast<size_t>(units * (d + 2)) * sizeof(T)),
        weight_sums(weighted ? static_cast<size_t>(units) * sizeof(double) : 0) {}
  void place(LinearParams<T>& p) const {
    p.partials = sums.as<T>();
    p.weight_sums = weight_sums.as<double>();
  }
};

// Adds a wave of segments to the open sums.
template <class T>
void add_wave(LinearParams<T> p, int64_t segment0, int64_t segments, LinearSums& sums) {
  const int64_t d = p.rows.d;
  const bool weighted = p.rows.weight != nullptr;
  const LinearPartials<T> partials(segments, d, weighted);
  partials.place(p);
  p.segment0 = segment0;
  p.segments = segments;
  launch_partials(p);

  const int64_t first = sums.begin_segments(segments);
  sums.begin_squares(segments);
  std::vector<double> start = sums.weights;
  start.insert(start.end(), {sums.intercept[0], sums.squares, sums.sample_weight});
  HostPieces pieces(first, segments, std::move(start));
  pieces.fold(p.partials, d + 2, 0);
  if (weighted) pieces.fold(p.weight_sums, 1, d + 2);
  pieces.fetch();
  synchronize();
  for (int64_t i = 0; i < pieces.count(); ++i) {
    if (i > 0) {
      sums.begin_segments(pieces.left(i - 1));
      sums.begin_squares(pieces.left(i - 1));
    }
    const double* const row = pieces.row(i);
    std::copy(row, row + d, sums.weights.begin());
    sums.intercept[0] = row[d];
    sums.squares = row[d + 1];
    if (weighted) sums.sample_weight = row[d + 2];
  }
}

// Sets the parameters of p, which are the host's: they travel with the launch or, where they are
// many, in `memory`.
template <class T>
void send_parameters(const LinearArgs<T>& args, LinearParams<T>& p, const Memory& memory) {
  std::vector<T> values;
  for (int64_t j = 0; j < args.d; ++j) values.push_back(args.weights.data[j * args.weights.rs]);
  if (args.intercept.data) values.push_back(*args.intercept.data);
  p.has_intercept = args.intercept.data != nullptr;
  p.parameters_rs = 1;
  p.parameters_inside = values.size() <= LinearParams<T>::most_inside;
  if (p.parameters_inside) {
    std::copy(values.begin(), values.end(), p.inside);
    p.parameters = p.intercept = nullptr;  // the host's addresses do not travel
    return;
  }
  copy_to_device(memory.as<void>(), values.data(), values.size() * sizeof(T));
  p.parameters = memory.as<T>();
  p.intercept = p.has_intercept ? p.parameters + args.d : nullptr;
}

}  // namespace

template <class T>
void linear(const LinearArgs<T>& args, int64_t segment0, int64_t segment1, LinearSums& sums) {
  if (segment0 == segment1) return;
  const void* const rows = any_element(args);
  if (!rows) return host_device<T>().linear(args, segment0, segment1, sums);
  const Scope scope(home_of(rows));
  const Scaling scaling(args);
  if (args.t != 1) return add_targets(args, scaling, segment0, segment1, sums);
  LinearParams<T> p = params_of(args, scaling);
  const bool inside = args.d < LinearParams<T>::most_inside;
  const Memory parameters(inside ? 0 : static_cast<size_t>(args.d + 1) * sizeof(T));
  send_parameters(args, p, parameters);
  const int64_t wave = wave_of((args.d + 3) * static_cast<int64_t>(sizeof(double)));
  for (int64_t segment = segment0; segment < segment1; segment += wave)
    add_wave(p, segment, std::min(wave, segment1 - segment), sums);
}

namespace {

// Whether two problems differ in nothing but where their arrays lie.
template <class T>
bool alike(const LossArgs<T>& a, const LossArgs<T>& b) {
  const LinearArgs<T>&x = a.rows, &y = b.rows;
  const auto same_nulls = [](const T* p, const T* q) { return (p == nullptr) == (q == nullptr); };
  const auto same_strides = [](const auto& p, const auto& q) {
    return p.rs == q.rs && p.cs == q.cs && (p.data == nullptr) == (q.data == nullptr);
  };
  const auto same_stride = [&](const Vector<const T>& p, const Vector<const T>& q) {
    return p.stride == q.stride && same_nulls(p.data, q.data);
  };
  return x.n == y.n && x.d == y.d && x.t == y.t && same_strides(x.X, y.X) &&
         same_strides(x.y, y.y) && same_strides(x.offset, y.offset) &&
         same_strides(x.weights, y.weights) && same_stride(x.sample_weight, y.sample_weight) &&
         same_stride(x.intercept, y.intercept) && x.order == y.order && x.first == y.first &&
         x.scaling == y.scaling && x.loss.place == y.loss.place && x.loss.delta == y.loss.delta &&
         a.reduction == b.reduction && same_nulls(a.intercept, b.intercept) &&
         loads_rows_packed(x) == loads_rows_packed(y);
}

template <class T, class In>
void launch_close(const char* kernel, const CloseOf<T>& closing, const In* in, int64_t count,
                  const double* weight_sums) {
  CloseParams<T, In> p{};
  static_cast<CloseOf<T>&>(p) = closing;
  p.in = in;
  p.count = count;
  p.weight_sums = weight_sums;
  launch_each<T>(kernel, p.problems * p.entries, p);
}

// Closes problems from the partials of p.
template <class T>
void close_partials(const LinearParams<T>& p, const CloseOf<T>& closing) {
  if (p.segments <= fan_in)
    return launch_close("close", closing, p.partials, p.segments, p.weight_sums);
  DeviceLevels sums(p.problems, closing.entries), weights(p.problems, 1);
  const double* const folded = sums.fold(p.partials, p.segments);
  const double* const weight = p.weight_sums ? weights.fold(p.weight_sums, p.segments) : nullptr;
  launch_close(sizeof(T) == 4 ? "close_folded" : "close", closing, folded, sums.count(), weight);
}

// Problems that are alike; scaling: theirs.
template <class T>
void run_alike(int64_t count, const LossArgs<T>* args, const Scaling& scaling) {
  const LinearArgs<T>& rows = args->rows;
  const Places<LinearArrays<T>, LinearSteps> places(count, args, arrays_of<T>);
  const Places<CloseArrays<T>, CloseSteps> results(count, args, results_of<T>);
  LinearParams<T> p = params_of(rows, scaling);
  p.problems = count;
  p.steps = places.steps();
  p.table = places.table();
  p.segments = ceil_div(rows.n, L<T>);
  const LinearPartials<T> partials(count * p.segments, rows.d, rows.sample_weight.data != nullptr);
  partials.place(p);
  launch_partials(p);

  CloseOf<T> closing{};
  closing.problems = count;
  closing.entries = rows.d + 2;
  closing.d = rows.d;
  closing.t = 1;
  closing.n = rows.n;
  closing.reduction = args->reduction;
  closing.slope = Losses::scales[rows.loss.place];
  closing.out = results_of(*args);
  closing.steps = results.steps();
  closing.table = results.table();
  close_partials(p, closing);
}

}  // namespace

template <class T>
void linear_each(int64_t count, const LossArgs<T>* args) {
  for (int64_t i = 0; i < count; ++i) {
    const LinearArgs<T>& rows = args[i].rows;
    const double size = static_cast<double>(rows.n) * static_cast<double>(rows.t);
    *args[i].elements =
        rows.sample_weight.data && size > 0 ? std::numeric_limits<double>::quiet_NaN() : size;
  }
  while (count > 0) {
    const LinearArgs<T>& rows = args->rows;
    const int64_t products = rows.t == 1 ? 0 : rows.n * rows.t;
    const int64_t bytes = (ceil_div(rows.n + 1, L<T>) * ((rows.d + 1) * rows.t + 2) + products) *
                          static_cast<int64_t>(sizeof(double));
    int64_t now = 1;
    const int64_t most = std::min(count, wave_of(bytes));
    while (now < most && alike(args[0], args[now])) ++now;
    const Scaling scaling(rows);
    if (rows.t == 1)
      run_alike(now, args, scaling);
    else
      run_targets(now, args, scaling);
    args += now;
    count -= now;
  }
}

#define GDCORE_INSTANTIATE(T)                                                   \
  template void linear<T>(const LinearArgs<T>&, int64_t, int64_t, LinearSums&); \
  template void linear_each<T>(int64_t, const LossArgs<T>*);
GDCORE_INSTANTIATE(float)
GDCORE_INSTANTIATE(double)

}  // namespace gdcore::cuda
