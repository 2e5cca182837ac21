// Which row comes at which position of a shuffled epoch: a keyed bijection on [0, n), no index
// array.
#pragma once

#include <cstdint>

#include "hd.hpp"

namespace gdcore {

struct PhiloxWords {
  uint32_t at[4];
};

// Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011): a counter-based random generator.
GDCORE_HD inline PhiloxWords philox(PhiloxWords counter, uint32_t key0, uint32_t key1) {
  uint32_t* const c = counter.at;
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * c[0];
    const uint64_t p1 = uint64_t{0xCD9E8D57u} * c[2];
    counter = {{static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ key0, static_cast<uint32_t>(p1),
                static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ key1, static_cast<uint32_t>(p0)}};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return counter;
}

// A Feistel network on the smallest 2^b >= n (b >= 8), walked until it lands below n.
class Permutation {
 public:
  Permutation() = default;  // the identity
  GDCORE_HD Permutation(int64_t n, uint64_t seed, uint64_t epoch) : n_(static_cast<uint64_t>(n)) {
    // Small domains make poor Feistel networks: at least 2^8, walking costs little there.
    int bits = 8;
    while ((uint64_t{1} << bits) < n_) ++bits;
    left_bits_ = bits / 2;
    right_bits_ = bits - left_bits_;
    for (uint32_t block = 0; block < rounds / 4; ++block) {
      const PhiloxWords words =
          philox({{block, 0, static_cast<uint32_t>(epoch), static_cast<uint32_t>(epoch >> 32)}},
                 static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
      for (uint32_t i = 0; i < 4; ++i) keys_[block * 4 + i] = words.at[i];
    }
  }

  GDCORE_HD int64_t operator()(int64_t position) const {
    int64_t row = 0;
    rows(position, 1, &row);
    return row;
  }

  // Rows at positions first, first + 1, ...: several at once, since each is a long chain of
  // products.
  GDCORE_HD void rows(int64_t first, int64_t count, int64_t* out) const {
    if (n_ == 0) {
      for (int64_t i = 0; i < count; ++i) out[i] = first + i;
      return;
    }
    for (int64_t i = 0; i < count; ++i)
      out[i] = static_cast<int64_t>(shuffled(static_cast<uint64_t>(first + i)));
    for (int64_t i = 0; i < count; ++i) {
      auto x = static_cast<uint64_t>(out[i]);
      while (x >= n_) x = shuffled(x);
      out[i] = static_cast<int64_t>(x);
    }
  }

 private:
  // Within the power of two.
  GDCORE_HD uint64_t shuffled(uint64_t x) const {
    const uint64_t left_mask = (uint64_t{1} << left_bits_) - 1;
    const uint64_t right_mask = (uint64_t{1} << right_bits_) - 1;
    uint64_t left = x >> right_bits_, right = x & right_mask;
    for (int i = 0; i < rounds; i += 2) {
      left ^= mix(right, keys_[i]) & left_mask;
      right ^= mix(left, keys_[i + 1]) & right_mask;
    }
    return left << right_bits_ | right;
  }

  GDCORE_HD static uint64_t mix(uint64_t half, uint32_t key) {
    uint64_t h = (half ^ key) * 0x9E3779B97F4A7C15u;
    h ^= h >> 32;
    h *= 0xD6E8FEB86659FD93u;
    return h >> 32;
  }

  static constexpr int rounds = 8;
  uint64_t n_ = 0;
  int left_bits_ = 0, right_bits_ = 0;
  uint32_t keys_[rounds] = {};
};

}  // namespace gdcore
