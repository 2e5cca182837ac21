// Where the arrays of several problems lie, for kernels that serve them all.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <tuple>
#include <vector>

#include "cuda/copy.hpp"
#include "cuda/driver.hpp"
#include "cuda/kernels/fold_params.hpp"
#include "cuda/kernels/linear_params.hpp"
#include "device.hpp"

namespace gdcore::cuda {

template <class T>
LinearArrays<T> arrays_of(const LossArgs<T>& args) {
  const LinearArgs<T>& rows = args.rows;
  return {rows.X.data,       rows.y.data,        rows.offset.data, rows.sample_weight.data,
          rows.weights.data, rows.intercept.data};
}
template <class T>
CloseArrays<T> results_of(const LossArgs<T>& args) {
  return {args.loss, args.weights, args.intercept};
}

// Elements from `a` to `b`.
template <class T>
int64_t distance(const T* a, const T* b) {
  return static_cast<int64_t>(reinterpret_cast<intptr_t>(b) - reinterpret_cast<intptr_t>(a)) /
         static_cast<int64_t>(sizeof(T));
}
template <class T>
LinearSteps steps_between(const LinearArrays<T>& a, const LinearArrays<T>& b) {
  return {distance(a.X, b.X),
          distance(a.y, b.y),
          distance(a.offset, b.offset),
          distance(a.weight, b.weight),
          distance(a.parameters, b.parameters),
          distance(a.intercept, b.intercept)};
}
template <class T>
CloseSteps steps_between(const CloseArrays<T>& a, const CloseArrays<T>& b) {
  return {distance(a.loss, b.loss), distance(a.weights, b.weights),
          distance(a.intercept, b.intercept)};
}
inline bool operator==(const LinearSteps& a, const LinearSteps& b) {
  return std::tie(a.X, a.y, a.offset, a.weight, a.parameters, a.intercept) ==
         std::tie(b.X, b.y, b.offset, b.weight, b.parameters, b.intercept);
}
inline bool operator==(const CloseSteps& a, const CloseSteps& b) {
  return std::tie(a.loss, a.weights, a.intercept) == std::tie(b.loss, b.weights, b.intercept);
}

// The step from each of several places to the next; none if they do not lie one step apart.
template <class Steps, class T, class ArraysOf>
std::optional<Steps> even_steps(int64_t count, const LossArgs<T>* args, ArraysOf&& arrays) {
  if (count == 1) return Steps{};
  const Steps step = steps_between(arrays(args[0]), arrays(args[1]));
  for (int64_t i = 2; i < count; ++i)
    if (!(steps_between(arrays(args[i - 1]), arrays(args[i])) == step)) return std::nullopt;
  return step;
}

// Where the arrays of several problems lie: one step apart, or in a table on the device.
template <class Arrays, class Steps>
class Places {
 public:
  template <class T, class ArraysOf>
  Places(int64_t count, const LossArgs<T>* args, ArraysOf&& arrays) {
    if (const auto even = even_steps<Steps>(count, args, arrays)) {
      steps_ = *even;
      return;
    }
    constexpr size_t words = sizeof(Arrays) / sizeof(uint64_t);
    static_assert(sizeof(Arrays) == words * sizeof(uint64_t), "a table is written by words");
    std::vector<uint64_t> all(static_cast<size_t>(count) * words);
    for (size_t i = 0; i < static_cast<size_t>(count); ++i) {
      const Arrays each = arrays(args[i]);
      std::memcpy(&all[i * words], &each, sizeof each);
    }
    table_.emplace(all.size() * sizeof(uint64_t));
    write(table_->as<uint64_t>(), all.data(), static_cast<int64_t>(all.size()));
  }
  const Steps& steps() const { return steps_; }
  const Arrays* table() const { return table_ ? table_->template as<Arrays>() : nullptr; }

 private:
  Steps steps_ = {};
  std::optional<Memory> table_;
};

}  // namespace gdcore::cuda
