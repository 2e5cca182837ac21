// Long sums on the device: partials are added in pieces, the pieces' sums in pieces again.
#pragma once

#include <utility>

#include "contract.hpp"
#include "cuda/kernels/partials_params.hpp"
#include "cuda/launch.hpp"

namespace gdcore::cuda {

// Partials of a level may be added in one chain: the highest level has no end.
constexpr bool is_one_piece(int64_t count, size_t level) {
  return count <= fan_in || level + 1 == sum_levels;
}

// p.partials (p.count, p.width) of this level become sums (pieces, p.width).
template <class T>
void add_pieces(PartialsParams<T> p, size_t level) {
  p.piece = is_one_piece(p.count, level) ? p.count : fan_in;
  const int64_t tasks = ceil_div(p.count, p.piece) * p.width;
  constexpr int64_t many = 4096;  // tasks: enough for a thread each
  constexpr int threads = 128;
  if (tasks >= many)
    launch_all(kernel_of<T>("add_partials").c_str(), ceil_div(tasks, threads), threads, 0, p);
  else
    launch_all(kernel_of<T>("add_few_partials").c_str(), tasks, 32, fan_in * sizeof(T), p);
}

// Adds levels until the partials are one piece, and calls end(partials, count, level) on those.
template <class T, class End>
void add_levels(const T* partials, int64_t count, int64_t width, size_t level, End&& end) {
  if (is_one_piece(count, level)) return std::forward<End>(end)(partials, count, level);
  const int64_t pieces = ceil_div(count, fan_in);
  const Memory sums(static_cast<size_t>(pieces * width) * sizeof(T));
  PartialsParams<T> p{};
  p.partials = partials;
  p.count = count;
  p.width = width;
  p.sums = sums.as<T>();
  add_pieces(p, level);
  add_levels(static_cast<const T*>(p.sums), pieces, width, level + 1, std::forward<End>(end));
}

}  // namespace gdcore::cuda
