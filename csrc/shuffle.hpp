// Which row comes at which position of a shuffled epoch: a keyed bijection on [0, n), no index
// array.
#pragma once

#include <array>
#include <cstdint>

namespace gdcore {

// Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011): a counter-based random generator.
std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

// A Feistel network on the smallest 2^b >= n (b >= 8), walked until it lands below n.
class Permutation {
 public:
  Permutation() = default;  // the identity
  Permutation(int64_t n, uint64_t seed, uint64_t epoch);

  int64_t operator()(int64_t position) const;
  // Of positions first, first + 1, ...: several at once, since each is a long chain of products.
  void rows(int64_t first, int64_t count, int64_t* out) const;

 private:
  uint64_t shuffled(uint64_t x) const;  // within the power of two

  static constexpr int rounds = 8;
  uint64_t n_ = 0;
  int left_bits_ = 0, right_bits_ = 0;
  std::array<uint32_t, rounds> keys_{};
};

}  // namespace gdcore
