#include "cuda/targets.hpp"

#include <algorithm>
#include <vector>

#include "cuda/fold.hpp"
#include "cuda/kernels/gather_params.hpp"
#include "cuda/kernels/targets_params.hpp"
#include "cuda/operations.hpp"
#include "cuda/places.hpp"

namespace gdcore::cuda {
namespace {

// Sums over the rows of problems whose arrays lie one step apart; weights and intercept are on the
// device. A row of partials: X^T residual (d,t), 1^T residual (t).
template <class T>
class Targets {
 public:
  Targets(const LinearArgs<T>& args, const Scaling& scaling, int64_t problems,
          const LinearSteps& steps)
      : args_(args), scaling_(scaling), problems_(problems), steps_(steps) {}

  int64_t entries() const { return (args_.d + 1) * args_.t; }
  bool weighted() const { return args_.sample_weight.data != nullptr; }
  int64_t rows(int64_t segment0, int64_t segments) const {
    return std::min(segments * L<T>, args_.n - segment0 * L<T>);
  }
  int64_t squares(int64_t segment0, int64_t segments) const {
    return ceil_div(rows(segment0, segments) * args_.t, L<T>);
  }
  // Segments of a wave.
  int64_t wave() const {
    const int64_t copied = copies_X() ? args_.d : 0;
    const int64_t values = std::max<int64_t>(entries() + L<T> * (args_.t + copied), 1);
    return std::max<int64_t>(1, wave_bytes / static_cast<int64_t>(sizeof(T)) / values);
  }

  // The partials of segments [segment0, segment0 + segments) of each problem, and those of their
  // squares; weight_sums is null without weights.
  void run(int64_t segment0, int64_t segments, T* partials, T* squares, double* weight_sums) const {
    const int64_t n = rows(segment0, segments), position = args_.first + segment0 * L<T>;
    const Memory copy(copies_X() ? static_cast<size_t>(n * args_.d) * sizeof(T) : 0);
    const Memory products(static_cast<size_t>(problems_ * n * args_.t) * sizeof(T));
    const Matrix<const T> X = rows_of_X(position, n, copy.as<T>());
    multiply(X, n, products.as<T>());

    TargetsParams<T> p{};
    p.problems = problems_;
    p.rows = n;
    p.d = args_.d;
    p.t = args_.t;
    p.first = position;
    if (args_.order) p.order = *args_.order;
    p.intercept = args_.intercept.data;
    p.intercept_stride = args_.intercept.stride;
    p.offset = args_.offset.data;
    p.offset_rs = args_.offset.rs;
    p.offset_cs = args_.offset.cs;
    p.y = args_.y.data;
    p.y_rs = args_.y.rs;
    p.y_cs = args_.y.cs;
    p.weight = args_.sample_weight.data;
    p.weight_rs = args_.sample_weight.stride;
    p.steps = steps_;
    p.means_of_y = scaling_.data() ? scaling_.data() + 2 * args_.d : nullptr;
    p.loss = args_.loss;
    p.products = products.as<T>();
    p.squares = squares;
    p.partials = partials;
    p.weight_sums = weight_sums;
    launch(kernel_of<T>("target_slopes").c_str(), problems_ * ceil_div(n * args_.t, L<T>),
           threads_of_block, 2 * L<T> * sizeof(T), p);
    launch_each<T>("target_sums", problems_ * segments * (args_.t + 1), p);
    add_products(X, n, products.as<T>(), partials);
  }

 private:
  bool copies_X() const { return args_.order || args_.scaling; }

  // X from a position on; a copy if its rows are shuffled or standardised.
  Matrix<const T> rows_of_X(int64_t position, int64_t n, T* copy) const {
    if (!copies_X()) return {args_.X.data + position * args_.X.rs, args_.X.rs, args_.X.cs};
    GatherParams<T> p{};
    p.rows = n;
    p.columns = args_.d;
    p.first = position;
    p.in = args_.X.data;
    p.rs = args_.X.rs;
    p.cs = args_.X.cs;
    if (args_.order) p.order = *args_.order;
    p.means = scaling_.data();
    p.factors = scaling_.data() ? scaling_.data() + args_.d : nullptr;
    p.out = copy;
    launch_each<T>("gather", n * args_.d, p);
    return {copy, args_.d, 1};
  }

  // X @ weights of each problem.
  void multiply(const Matrix<const T>& X, int64_t n, T* products) const {
    matmul(MatmulArgs<T>{n,
                         args_.t,
                         args_.d,
                         X,
                         args_.weights,
                         {products, args_.t, 1},
                         {problems_},
                         {steps_.X},
                         {steps_.parameters},
                         {n * args_.t}});
  }

  // X^T residual of each segment: a chain over at most 512 rows is one of matmul's. The last
  // segment may be shorter than the ones before it.
  void add_products(const Matrix<const T>& X, int64_t n, const T* slopes, T* partials) const {
    if (args_.d == 0) return;
    const int64_t t = args_.t, full = n / L<T>, segments = ceil_div(n, L<T>);
    const auto add = [&](int64_t segment0, int64_t count, int64_t rows) {
      if (count == 0 || rows == 0) return;
      const int64_t row = segment0 * L<T>;
      matmul(MatmulArgs<T>{args_.d,
                           t,
                           rows,
                           {X.data + row * X.rs, X.cs, X.rs},
                           {slopes + row * t, t, 1},
                           {partials + segment0 * entries(), t, 1},
                           {problems_, count},
                           {steps_.X, L<T> * X.rs},
                           {n * t, L<T> * t},
                           {segments * entries(), entries()}});
    };
    add(0, full, L<T>);
    add(full, 1, n % L<T>);
  }

  const LinearArgs<T>& args_;
  const Scaling& scaling_;
  int64_t problems_;
  LinearSteps steps_;
};

// Adds a wave of segments to the open sums.
template <class T>
void add_wave(const Targets<T>& targets, int64_t segment0, int64_t segments, LinearSums& sums) {
  const int64_t entries = targets.entries(), count = targets.squares(segment0, segments);
  const Memory partials(static_cast<size_t>(segments * entries) * sizeof(T));
  const Memory squares(static_cast<size_t>(count) * sizeof(T));
  const Memory weights(targets.weighted() ? static_cast<size_t>(segments) * sizeof(double) : 0);
  targets.run(segment0, segments, partials.as<T>(), squares.as<T>(), weights.as<double>());

  const int64_t first = sums.begin_segments(segments), first_square = sums.begin_squares(count);
  std::vector<double> start = sums.weights;
  start.insert(start.end(), sums.intercept.begin(), sums.intercept.end());
  start.push_back(sums.sample_weight);
  HostPieces rows(first, segments, start), square(first_square, count, {sums.squares});
  rows.fold(partials.as<T>(), entries, 0);
  if (targets.weighted()) rows.fold(weights.as<double>(), 1, entries);
  square.fold(squares.as<T>(), 1, 0);
  rows.fetch();
  square.fetch();
  synchronize();
  for (int64_t i = 0; i < rows.count(); ++i) {
    if (i > 0) sums.begin_segments(rows.left(i - 1));
    const double* row = rows.row(i);
    for (double& sum : sums.weights) sum = *row++;
    for (double& sum : sums.intercept) sum = *row++;
    if (targets.weighted()) sums.sample_weight = *row;
  }
  for (int64_t i = 0; i < square.count(); ++i) {
    if (i > 0) sums.begin_squares(square.left(i - 1));
    sums.squares = *square.row(i);
  }
}

// Adds up partials (groups, count, entries), which are of the level `from`, into rows of `to`.
template <class T, class In>
void fold_into(int64_t groups, int64_t entries, const In* in, int64_t count, size_t from,
               double* to, int64_t pitch) {
  const auto one = [&](const auto* sums, int64_t left) {
    FoldParams<std::remove_cv_t<std::remove_reference_t<decltype(*sums)>>> p{};
    p.groups = groups;
    p.count = p.first = p.length = left;
    p.entries = entries;
    p.pieces = 1;
    p.in = sums;
    p.out = to;
    p.out_pitch = pitch;
    launch_fold(p);
  };
  if (count <= fan_in || from + 1 >= sum_levels) return one(in, count);
  DeviceLevels levels(groups, entries);
  const double* const sums = levels.fold(in, count, from);
  one(sums, levels.count());
}

// Problems one step apart, or a single one.
template <class T>
void run_even(int64_t count, const LossArgs<T>& first, const Scaling& scaling,
              const LinearSteps& steps, const CloseSteps& results) {
  const LinearArgs<T>& args = first.rows;
  const Targets<T> targets(args, scaling, count, steps);
  const int64_t entries = targets.entries(), segments = ceil_div(args.n, L<T>);
  const int64_t pieces = ceil_div(segments, fan_in);
  const int64_t parts = targets.squares(0, segments);
  const auto bytes = [](int64_t values, size_t size) { return static_cast<size_t>(values) * size; };
  const int64_t wave = count > 1 ? segments : std::min({targets.wave(), fan_in, segments});
  const Memory partials(bytes(count * wave * entries, sizeof(T)));
  const Memory squares(bytes(count * parts, sizeof(T)));
  const Memory weights(targets.weighted() ? bytes(count * segments, sizeof(double)) : 0);
  const Memory sums(bytes(count * pieces * entries, sizeof(double)));
  const Memory totals(bytes(count * (entries + 1), sizeof(double)));
  for (int64_t piece = 0; piece < pieces; ++piece) {
    const int64_t end = std::min(segments, (piece + 1) * fan_in);
    for (int64_t segment = piece * fan_in; segment < end; segment += wave) {
      const int64_t now = std::min(wave, end - segment);
      targets.run(segment, now, partials.as<T>(), squares.as<T>() + segment * args.t,
                  weights.as<double>() + (targets.weighted() ? segment : 0));
      double* const to = sums.as<double>() + piece * entries;
      const double* const start = segment > piece * fan_in ? to : nullptr;
      launch_fold(
          FoldParams<T>{count, now, entries, now, now, 1, partials.as<T>(), start, to, entries});
    }
  }
  fold_into<T>(count, entries, sums.as<double>(), pieces, 1, totals.as<double>(), entries + 1);
  fold_into<T>(count, 1, squares.as<T>(), parts, 0, totals.as<double>() + entries, entries + 1);

  CloseParams<T, double> closing{};
  closing.problems = count;
  closing.entries = entries + 1;
  closing.d = args.d;
  closing.t = args.t;
  closing.n = args.n;
  closing.reduction = first.reduction;
  closing.slope = Losses::scales[args.loss.place];
  closing.out = results_of(first);
  closing.steps = results;
  closing.count = 1;
  closing.in = totals.as<double>();
  const Memory weight(targets.weighted() ? bytes(count, sizeof(double)) : 0);
  if (targets.weighted()) {
    fold_into<T>(count, 1, weights.as<double>(), segments, 0, weight.as<double>(), 1);
    closing.weight_sums = weight.as<double>();
  }
  launch_each<T>(sizeof(T) == 4 ? "close_folded" : "close", count * (entries + 1), closing);
}

}  // namespace

template <class T>
void add_targets(const LinearArgs<T>& args, const Scaling& scaling, int64_t segment0,
                 int64_t segment1, LinearSums& sums) {
  std::vector<T> parameters;
  for (int64_t j = 0; j < args.d; ++j)
    for (int64_t u = 0; u < args.t; ++u)
      parameters.push_back(args.weights.data[j * args.weights.rs + u * args.weights.cs]);
  for (int64_t u = 0; args.intercept.data && u < args.t; ++u)
    parameters.push_back(args.intercept.data[u * args.intercept.stride]);
  const Memory memory(parameters.size() * sizeof(T));
  copy_to_device(memory.as<void>(), parameters.data(), parameters.size() * sizeof(T));
  LinearArgs<T> here = args;
  here.weights = {memory.as<T>(), args.t, 1};
  if (args.intercept.data) here.intercept = {memory.as<T>() + args.d * args.t, 1};
  const Targets<T> targets(here, scaling, 1, {});
  const int64_t wave = targets.wave();
  for (int64_t segment = segment0; segment < segment1; segment += wave)
    add_wave(targets, segment, std::min(wave, segment1 - segment), sums);
}

template <class T>
void run_targets(int64_t count, const LossArgs<T>* args, const Scaling& scaling) {
  const auto rows = even_steps<LinearSteps>(count, args, arrays_of<T>);
  const auto results = even_steps<CloseSteps>(count, args, results_of<T>);
  const LinearArgs<T>& first = args->rows;
  if (rows && results && !first.order && !first.scaling && first.n <= chain_terms<T>)
    return run_even(count, *args, scaling, *rows, *results);
  for (int64_t i = 0; i < count; ++i) run_even(1, args[i], scaling, {}, {});
}

#define GDCORE_INSTANTIATE(T)                                                                     \
  template void add_targets(const LinearArgs<T>&, const Scaling&, int64_t, int64_t, LinearSums&); \
  template void run_targets(int64_t, const LossArgs<T>*, const Scaling&);
GDCORE_INSTANTIATE(float)
GDCORE_INSTANTIATE(double)

}  // namespace gdcore::cuda
