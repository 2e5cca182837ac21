// Second moments of several problems at a time: small ones of one target side by side in the lanes
// of vectors, all others one after the other. Threads share them.
#include <algorithm>
#include <vector>

#include "cpu/dispatch.hpp"
#include "cpu/lane_layout.hpp"
#include "cpu/operations.hpp"
#include "cpu/share.hpp"
#include "descend.hpp"
#include "packed_quadratic.hpp"

namespace gdcore::cpu {
namespace {

template <class T>
bool suits_lanes(const LinearArgs<T>& args) {
  constexpr int64_t most_elements = 4096;  // of a lane: a second cache holds all
  return args.t == 1 && args.d > 0 && args.d < most_lane_params && args.n > 0 && args.n <= L<T> &&
         !args.offset.data && !args.sample_weight.data && !args.scaling &&
         args.n * (args.d + 2) <= most_elements;
}

// What a thread keeps from call to call, so that small problems allocate nothing.
template <class T>
class MomentLanes {
 public:
  // Sums over the rows of [0, count) problems of as many features, count <= lanes.
  void run(int64_t count, const ProblemRows<T>* problems, bool ones) {
    shape(problems[0].args.d, ones);
    for (int lane = 0; lane < lanes; ++lane) {
      if (lane < count) {
        locate(lane, problems[lane]);
      } else {  // the first problem once more
        view_.X[lane] = view_.X[0];
        view_.y[lane] = view_.y[0];
        view_.n[lane] = view_.n[0];
      }
    }
    view_.fewest = *std::min_element(view_.n, view_.n + lanes);
    view_.most = *std::max_element(view_.n, view_.n + lanes);
    isa<T>().moments_lanes(view_);
  }

  // The sums of a lane.
  Pair product(int lane, int64_t a, int64_t b) const {  // of columns a <= b of [X y]
    const int64_t columns = view_.d + 1;
    return at(lane, a * columns - a * (a - 1) / 2 + b - a);
  }
  Pair column(int lane, int64_t j) const {
    const int64_t columns = view_.d + 1;
    return at(lane, columns * (columns + 1) / 2 + j);
  }
  Pair rows(int lane) const { return {static_cast<double>(view_.n[lane]), 0.0}; }

 private:
  Pair at(int lane, int64_t entry) const {
    const double* const sum = sums_.data() + entry * lanes + lane;
    if constexpr (sizeof(T) == 4) return {*sum, 0.0};
    return add({}, {*sum, sum[view_.low]});
  }

  void shape(int64_t d, bool ones) {
    const int64_t columns = d + 1;
    view_.d = d;
    view_.ones = ones;
    view_.low = (columns * (columns + 1) / 2 + columns) * lanes;
    sums_.resize(static_cast<size_t>(2 * view_.low));
    view_.sums = sums_.data();
  }

  // Where a lane's rows are, or a copy of them that lie together.
  void locate(int lane, const ProblemRows<T>& problem) {
    const LinearArgs<T>& args = problem.args;
    view_.n[lane] = args.n;
    const bool ordered = problem.order.rows;
    const bool as_they_are = !ordered && args.X.rs == args.d && (args.d == 1 || args.X.cs == 1);
    view_.X[lane] = as_they_are ? args.X.data : copy_of_X(problem, copies_[lane].X);
    view_.y[lane] = !ordered && args.y.rs == 1 ? args.y.data : copy_of_y(problem, copies_[lane].y);
  }
  static const T* copy_of_X(const ProblemRows<T>& problem, std::vector<T>& copy) {
    constexpr int64_t ahead = 32;  // rows in an order are anywhere
    const LinearArgs<T>& args = problem.args;
    const RowOrder& order = problem.order;
    copy.resize(static_cast<size_t>(args.n * args.d));
    T* to = copy.data();
    for (int64_t i = 0; i < args.n; ++i) {
      if (order.end - order.rows > i + ahead) {
        __builtin_prefetch(args.X.data + order.rows[i + ahead] * args.X.rs);
        __builtin_prefetch(args.y.data + order.rows[i + ahead] * args.y.rs);
      }
      const T* const row = args.X.data + (order.rows ? order.rows[i] : i) * args.X.rs;
      for (int64_t j = 0; j < args.d; ++j) *to++ = row[j * args.X.cs];
    }
    return copy.data();
  }
  static const T* copy_of_y(const ProblemRows<T>& problem, std::vector<T>& copy) {
    const LinearArgs<T>& args = problem.args;
    const int64_t* const order = problem.order.rows;
    copy.resize(static_cast<size_t>(args.n));
    for (int64_t i = 0; i < args.n; ++i) copy[i] = args.y.data[(order ? order[i] : i) * args.y.rs];
    return copy.data();
  }

  struct Copies {
    std::vector<T> X, y;
  };
  LaneMoments<T> view_{};
  std::vector<double> sums_;
  Copies copies_[lanes];
};

template <class T>
MomentLanes<T>& moment_lanes() {
  thread_local MomentLanes<T> lanes;
  return lanes;
}

template <class T>
void moments_of(const ProblemRows<T>& problem, Moments& moments) {
  std::vector<T> gathered;
  const LinearArgs<T> args = rows_in_order(problem, gathered);
  moments.reset(args.d, args.t);
  cpu::moments(args, 0, ceil_div(args.n, L<T>), moments);
  moments.close();
}

template <class T>
void unload(const MomentLanes<T>& sums, int lane, int64_t d, Moments& out) {
  out.reset(d, 1);
  const auto put = [&](int64_t to, Pair sum) {
    out.hi[to] = sum.hi;
    out.lo[to] = sum.lo;
  };
  const int64_t columns = out.columns();
  for (int64_t a = 0; a < d; ++a) {
    for (int64_t b = a; b < d; ++b) put(a * columns + b, sums.product(lane, a, b));
    put(a * columns + d, sums.column(lane, a));
    put(a * columns + d + 1, sums.product(lane, a, d));
  }
  put(d * columns + d, sums.rows(lane));
  put(d * columns + d + 1, sums.column(lane, d));
  put((d + 1) * columns, sums.product(lane, d, d));
}

template <class T>
void unload(const MomentLanes<T>& sums, int lane, int64_t d, bool intercept, double* packed) {
  PackedWriter<T> to(d + (intercept ? 1 : 0), 1, packed);
  for (int64_t a = 0; a < d; ++a) {
    for (int64_t b = a; b < d; ++b) to.put(sums.product(lane, a, b));
    if (intercept) to.put(sums.column(lane, a));
  }
  if (intercept) to.put(sums.rows(lane));
  for (int64_t a = 0; a < d; ++a) to.put(sums.product(lane, a, d));
  if (intercept) to.put(sums.column(lane, d));
  to.put(sums.product(lane, d, d));
  to.put_tail(sums.rows(lane));
  to.put_tail(sums.column(lane, d));
  to.put_tail(sums.product(lane, d, d));
}

// in_lanes(begin, count) for neighbours that lanes take, alone(i) for all others.
template <class T, class InLanes, class Alone>
void in_lanes_or_alone(int64_t count, const ProblemRows<T>* problems, const InLanes& in_lanes,
                       const Alone& alone) {
  int64_t work = 0;
  for (int64_t i = 0; i < count; ++i) {
    const LinearArgs<T>& args = problems[i].args;
    work += args.n * (args.d + 2) * (args.d + 2 * args.t);
  }
  const auto features = [&](int64_t i) {
    return suits_lanes(problems[i].args) ? problems[i].args.d : 0;
  };
  share_lanes(count, work, features, in_lanes, alone);
}

}  // namespace

template <class T>
void moments_each(int64_t count, const ProblemRows<T>* problems, Moments* moments) {
  const auto in_lanes = [&](int64_t begin, int64_t held) {
    MomentLanes<T>& sums = moment_lanes<T>();
    sums.run(held, problems + begin, true);
    for (int lane = 0; lane < held; ++lane)
      unload(sums, lane, problems[begin].args.d, moments[begin + lane]);
  };
  in_lanes_or_alone(count, problems, in_lanes,
                    [&](int64_t i) { moments_of(problems[i], moments[i]); });
}

template <class T>
void quadratics_each(int64_t count, const ProblemRows<T>* problems, bool intercept,
                     double* const* packed) {
  const auto in_lanes = [&](int64_t begin, int64_t held) {
    MomentLanes<T>& sums = moment_lanes<T>();
    sums.run(held, problems + begin, intercept);
    for (int lane = 0; lane < held; ++lane)
      unload(sums, lane, problems[begin].args.d, intercept, packed[begin + lane]);
  };
  in_lanes_or_alone(count, problems, in_lanes, [&](int64_t i) {
    Moments moments;
    moments_of(problems[i], moments);
    pack_moments<T>(moments, moments, intercept, packed[i]);
  });
}

#define GDCORE_INSTANTIATE(T)                                              \
  template void moments_each<T>(int64_t, const ProblemRows<T>*, Moments*); \
  template void quadratics_each<T>(int64_t, const ProblemRows<T>*, bool, double* const*);
GDCORE_INSTANTIATE(float)
GDCORE_INSTANTIATE(double)

}  // namespace gdcore::cpu
