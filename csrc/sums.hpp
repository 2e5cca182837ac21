// Long sums: the partials of segments, added by rule 2 of docs/numerics.md. fan_in partials make a
// piece, whose sum is a partial of the level above.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>
#include <vector>

#include "contract.hpp"
#include "double_double.hpp"

namespace gdcore {

// up(level) for each level whose piece is complete after `count` partials, the lowest first: its
// sum moves to the level above.
template <class Up>
void each_complete(int64_t count, Up&& up) {
  for (size_t level = 0; level + 1 < sum_levels && count > 0 && count % fan_in == 0;
       count /= fan_in)
    up(level++);
}

// One long sum. A piece begins with its first partial.
template <class S>
class LongSum {
 public:
  template <class T>
  void add(const T* partials, int64_t count) {
    while (count > 0) {
      each_complete(count_, [&](size_t level) { move_up(level); });
      const int64_t now = std::min(count, fan_in - count_ % fan_in);
      add_to(0, static_cast<S>(partials[0]));
      S sum = level_[0];
      for (int64_t i = 1; i < now; ++i) sum += static_cast<S>(partials[i]);
      level_[0] = sum;
      partials += now;
      count -= now;
      count_ += now;
    }
  }
  void add(S partial) { add(&partial, 1); }
  S total() const {
    LongSum sum = *this;
    for (size_t level = 0; level + 1 < sum_levels; ++level)
      if (sum.filled_[level]) sum.move_up(level);
    return sum.level_[sum_levels - 1];
  }

 private:
  void add_to(size_t level, S partial) {
    level_[level] = filled_[level] ? level_[level] + partial : partial;
    filled_[level] = true;
  }
  void move_up(size_t level) {
    add_to(level + 1, level_[level]);
    filled_[level] = false;
  }

  S level_[sum_levels] = {};
  bool filled_[sum_levels] = {};
  int64_t count_ = 0;
};

// What a pass over the rows sums.
struct LinearLevel {
  double squares = 0.0;                    // sum of weight * residual^2
  double sample_weight = 0.0;              // sum of weights
  std::vector<double> weights, intercept;  // X^T residual (d,t), 1^T residual (t)

  void zero(int64_t d, int64_t t) {
    squares = sample_weight = 0.0;
    weights.resize(static_cast<size_t>(d * t));
    intercept.resize(static_cast<size_t>(t));
    for (double& sum : weights) sum = 0.0;
    for (double& sum : intercept) sum = 0.0;
  }
};

// Partials of segments are in T and added in double, where a piece that begins with +0 has the bits
// of one that begins with its first partial. Until close() the fields are those of the lowest
// level.
struct LinearSums : LinearLevel {
  void reset(int64_t d, int64_t t) {
    zero(d, t);
    segments_ = partials_ = 0;
    upper_.clear();
  }

  // Call it before a segment's partials are added to sample_weight, weights and intercept.
  void begin_segment() {
    each_complete(segments_++, [&](size_t level) { move_up(level); });
  }
  // A segment of rows has a partial of squares for every 512 elements of several targets.
  void add_squares(double partial) {
    each_complete(partials_++, [&](size_t level) { move_up_squares(level); });
    squares += partial;
  }

  // For a device that adds the partials of many segments itself. How many of the next `count`
  // segments, or partials of squares, belong to the piece under way; counts them. What the fields
  // of the lowest level then hold is the sum that they are added to.
  int64_t begin_segments(int64_t count) {
    begin_segment();
    const int64_t now = std::min(count, fan_in - (segments_ - 1) % fan_in);
    segments_ += now - 1;
    return now;
  }
  int64_t begin_squares(int64_t count) {
    each_complete(partials_, [&](size_t level) { move_up_squares(level); });
    const int64_t now = std::min(count, fan_in - partials_ % fan_in);
    partials_ += now;
    return now;
  }

  // Adds up the levels. Call reset() before the next segment.
  void close() {
    for (size_t level = 0; level < upper_.size(); ++level) {
      move_up_squares(level);
      move_up(level);
    }
    if (upper_.empty()) return;
    static_cast<LinearLevel&>(*this) = std::move(upper_.back());
    upper_.clear();
  }

 private:
  LinearLevel& at(size_t level) {
    while (upper_.size() < level) {
      upper_.emplace_back();
      upper_.back().weights.resize(weights.size());
      upper_.back().intercept.resize(intercept.size());
    }
    return level == 0 ? *this : upper_[level - 1];
  }
  void move_up_squares(size_t level) {
    LinearLevel &to = at(level + 1), &from = at(level);
    move_up(to.squares, from.squares);
  }
  void move_up(size_t level) {
    LinearLevel &to = at(level + 1), &from = at(level);
    move_up(to.sample_weight, from.sample_weight);
    for (size_t j = 0; j < weights.size(); ++j) move_up(to.weights[j], from.weights[j]);
    for (size_t u = 0; u < intercept.size(); ++u) move_up(to.intercept[u], from.intercept[u]);
  }
  static void move_up(double& to, double& from) {
    to += from;
    from = 0.0;
  }

  int64_t segments_ = 0, partials_ = 0;  // added so far
  std::vector<LinearLevel> upper_;       // above the lowest
};

// Sums over rows of z_a * z_b, the z being the columns of [X 1 y - offset], each row times the root
// of its weight: each sum a pair hi + lo. Only those with a <= b are there. Until close() hi and lo
// are those of the lowest level; a pass may continue from any state.
struct Moments {
  struct Level {
    std::vector<double> hi, lo;
  };

  int64_t d = 0, t = 0;
  std::vector<double> hi, lo;  // (d+1, d+1+t): [X 1]^T [X 1 y]; then the squares of y (t)
  int64_t segments = 0;        // added since reset() or close()
  std::vector<Level> upper;    // levels above the lowest; none up to 512 segments

  void reset(int64_t features, int64_t targets) {
    d = features;
    t = targets;
    const auto size = static_cast<size_t>((d + 1) * columns() + t);
    hi.assign(size, 0.0);
    lo.assign(size, 0.0);
    segments = 0;
    upper.clear();
  }
  int64_t columns() const { return d + 1 + t; }

  // Call it before the next segments are added. Returns how many may be, at most `count`, until the
  // piece is complete, and counts them.
  int64_t begin_segments(int64_t count) {
    each_complete(segments, [&](size_t level) { move_up(level); });
    const int64_t now = std::min(count, fan_in - segments % fan_in);
    segments += now;
    return now;
  }
  // Adds up the levels: later segments are added to the sum as to that of a piece's first ones.
  void close() {
    for (size_t level = 0; level < upper.size(); ++level) move_up(level);
    if (!upper.empty()) {
      hi.swap(upper.back().hi);
      lo.swap(upper.back().lo);
    }
    upper.clear();
    segments = 0;
  }

  // Both are closed. sign: 1, -1, or one of them times a power of two.
  void add(const Moments& other, double sign) { add(hi, lo, other.hi, other.lo, sign); }
  // By a power of two, of closed sums.
  void scale(double power) {
    for (double& sum : hi) sum *= power;
    for (double& sum : lo) sum *= power;
  }

  double square(int64_t column) const {
    return hi[column <= d ? column * (columns() + 1) : (d + 1) * columns() + column - d - 1];
  }

  bool finite() const {
    for (double sum : hi)
      if (!std::isfinite(sum)) return false;
    return true;
  }
  // Whether a sum of squares is one that float32 holds, or whose rounding errors float64 does.
  static bool in_range(double square, bool single) {
    const double low = single ? 0.0 : 0x1p-800, high = single ? 0x1.fffffep127 : 0x1p800;
    return square == 0 || (square >= low && square <= high);
  }
  bool in_range(bool single) const {
    for (int64_t j = 0; j < columns(); ++j)
      if (!in_range(square(j), single)) return false;
    return true;
  }

 private:
  static void add(std::vector<double>& hi, std::vector<double>& lo, const std::vector<double>& high,
                  const std::vector<double>& low, double sign) {
    for (size_t i = 0; i < hi.size(); ++i) {
      const Pair sum = gdcore::add({hi[i], lo[i]}, {sign * high[i], sign * low[i]});
      hi[i] = sum.hi;
      lo[i] = sum.lo;
    }
  }
  void move_up(size_t level) {
    if (upper.size() == level) {
      Level zeros{std::vector<double>(hi.size()), std::vector<double>(lo.size())};
      upper.push_back(std::move(zeros));
    }
    std::vector<double>& high = level == 0 ? hi : upper[level - 1].hi;
    std::vector<double>& low = level == 0 ? lo : upper[level - 1].lo;
    add(upper[level].hi, upper[level].lo, high, low, 1);
    std::fill(high.begin(), high.end(), 0.0);
    std::fill(low.begin(), low.end(), 0.0);
  }
};

}  // namespace gdcore
