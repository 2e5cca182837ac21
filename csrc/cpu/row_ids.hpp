// Rows of bytes, and texts, to ids: equal ones for equal rows, 0, 1, 2 and so on in the order in
// which they first come.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

namespace gdcore {

using std::int64_t;
using std::uint32_t;
using std::uint64_t;

constexpr int64_t most_rows_with_ids = (int64_t{1} << 32) - 2;

template <class T>
T read(const unsigned char* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

// At most 8 bytes as a number that no other bytes of that count give, without a call of memcpy.
inline uint64_t word(const unsigned char* p, int64_t bytes) {
  if (bytes == 8) return read<uint64_t>(p);
  if (bytes >= 4) return read<uint32_t>(p) | uint64_t{read<uint32_t>(p + bytes - 4)} << 32;
  return bytes ? p[0] | uint64_t{p[bytes / 2]} << 8 | uint64_t{p[bytes - 1]} << 16 : 0;
}

// What a row holds. Rows of equal bytes and different kinds are not equal.
struct RowBytes {
  const unsigned char* data;
  int64_t size : 60, kind : 4;  // 16 bytes in all: the table of those seen stays in a cache

  bool operator==(const RowBytes& other) const {
    if (size != other.size || kind != other.kind) return false;
    if (data == other.data) return true;
    if (size > 16) return !std::memcmp(data, other.data, static_cast<size_t>(size));
    const int64_t first = size > 8 ? 8 : 0, rest = size - first;
    return word(data, first) == word(other.data, first) &&
           word(data + first, rest) == word(other.data + first, rest);
  }
};

__extension__ using uint128_t = unsigned __int128;

// Equal for equal rows, and for few others.
inline uint64_t hash_of(const RowBytes& row) {
  constexpr uint64_t seed = 0x9E3779B97F4A7C15, odd = 0xD6E8FEB86659FD93;
  const auto mixed = [](uint64_t h) {
    h *= odd;
    return h ^ h >> 32;
  };
  const unsigned char* p = row.data;
  int64_t left = row.size;
  uint64_t h = seed;
  for (; left > 16; left -= 16, p += 16) {
    const uint128_t product = uint128_t{read<uint64_t>(p) ^ h} * (read<uint64_t>(p + 8) ^ odd);
    h = static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
  }
  for (; left > 8; left -= 8, p += 8) h = mixed(h ^ read<uint64_t>(p));
  return mixed(mixed(h ^ word(p, left)));
}

// A hash table with open addressing over rows: at(i) is what row i holds. A slot keeps a part of
// the hash, so that rows are compared only where they are very likely equal.
template <class At>
class Ids {
 public:
  Ids(At at, int64_t rows) : at_(std::move(at)), rows_(rows), slots_(1024) {}

  void run(int64_t* ids) {
    constexpr int64_t block = 64;  // rows whose slots are fetched together
    uint64_t hashes[block];
    for (int64_t begin = 0; begin < rows_; begin += block) {
      const int64_t count = std::min(block, rows_ - begin);
      for (int64_t i = 0; i < count; ++i) {
        hashes[i] = hash_of(at_(begin + i));
        __builtin_prefetch(&slots_[place(hashes[i])]);
      }
      for (int64_t i = 0; i < count; ++i) ids[begin + i] = id_of(at_(begin + i), hashes[i]);
    }
  }

 private:
  struct Slot {
    uint32_t tag, next_id;  // id + 1; 0: the slot is free
  };

  size_t place(uint64_t hash) const { return hash & (slots_.size() - 1); }
  static uint32_t tag(uint64_t hash) { return static_cast<uint32_t>(hash >> 32); }

  int64_t id_of(const RowBytes& row, uint64_t hash) {
    for (size_t i = place(hash);; i = (i + 1) & (slots_.size() - 1)) {
      Slot& slot = slots_[i];
      if (!slot.next_id) return add(slot, row, hash);
      const int64_t id = slot.next_id - 1;
      if (slot.tag == tag(hash) && firsts_[static_cast<size_t>(id)] == row) return id;
    }
  }

  int64_t add(Slot& slot, const RowBytes& row, uint64_t hash) {
    firsts_.push_back(row);
    slot = {tag(hash), static_cast<uint32_t>(firsts_.size())};
    const int64_t id = static_cast<int64_t>(firsts_.size()) - 1;
    if (2 * firsts_.size() > slots_.size()) grow();
    return id;
  }

  void grow() {
    slots_.assign(4 * slots_.size(), Slot{0, 0});
    for (size_t id = 0; id < firsts_.size(); ++id) {
      const uint64_t hash = hash_of(firsts_[id]);
      size_t i = place(hash);
      while (slots_[i].next_id) i = (i + 1) & (slots_.size() - 1);
      slots_[i] = {tag(hash), static_cast<uint32_t>(id + 1)};
    }
  }

  At at_;
  int64_t rows_;
  std::vector<Slot> slots_;
  std::vector<RowBytes> firsts_;  // of each id
};

// Writes an id for each of some rows, at most `most_rows_with_ids`.
template <class At>
void ids_of(At at, int64_t rows, int64_t* ids) {
  Ids<At>(std::move(at), rows).run(ids);
}

}  // namespace gdcore
