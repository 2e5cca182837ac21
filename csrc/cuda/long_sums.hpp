// Long sums on the device: partials are added in pieces, the pieces' sums in pieces again.
#pragma once

#include <type_traits>
#include <utility>

#include "contract.hpp"
#include "cuda/driver.hpp"
#include "cuda/kernels/partials_params.hpp"

namespace gdcore::cuda {

template <class T>
constexpr const char* by_type(const char* f32, const char* f64) {
  return std::is_same_v<T, float> ? f32 : f64;
}

// Launches any number of blocks, at most `most` at a time.
template <class Params>
void launch_all(const char* kernel, int64_t blocks, int threads, size_t shared_bytes, Params params,
                int64_t most = 0x7fffffff) {
  for (int64_t first = 0; first < blocks; first += most) {
    params.first_block = first;
    launch(kernel, blocks - first < most ? blocks - first : most, threads, shared_bytes, params);
  }
}

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
    launch_all(by_type<T>("add_partials_f32", "add_partials_f64"), ceil_div(tasks, threads),
               threads, 0, p);
  else
    launch_all(by_type<T>("add_few_partials_f32", "add_few_partials_f64"), tasks, 32,
               fan_in * sizeof(T), p);
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
