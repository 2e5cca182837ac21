#include "cpu/row_ids.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

namespace gdcore {
namespace {

constexpr uint64_t seed = 0x9E3779B97F4A7C15, odd = 0xD6E8FEB86659FD93;

uint64_t mixed(uint64_t h) {
  h *= odd;
  return h ^ h >> 32;
}

// The next bytes, at most 8, as a number.
uint64_t word(const unsigned char* p, int64_t bytes = 8) {
  uint64_t w = 0;
  std::memcpy(&w, p, static_cast<size_t>(bytes));
  return w;
}

uint64_t hash(const unsigned char* p, int64_t bytes) {
  uint64_t h = seed;
  for (; bytes > 8; bytes -= 8, p += 8) h = mixed(h ^ word(p));
  return mixed(mixed(h ^ word(p, bytes)));
}

// A hash table with open addressing. A slot keeps a part of the hash, so that rows are read, to
// compare them, only where they are very likely equal.
class Ids {
 public:
  Ids(const unsigned char* bytes, int64_t rows, int64_t width)
      : bytes_(bytes), rows_(rows), width_(width), slots_(1024) {}

  void run(int64_t* ids) {
    constexpr int64_t block = 64;  // rows whose slots are fetched together
    uint64_t hashes[block];
    for (int64_t begin = 0; begin < rows_; begin += block) {
      const int64_t count = std::min(block, rows_ - begin);
      for (int64_t i = 0; i < count; ++i) {
        hashes[i] = hash(row(begin + i), width_);
        __builtin_prefetch(&slots_[hashes[i] & (slots_.size() - 1)]);
      }
      for (int64_t i = 0; i < count; ++i) ids[begin + i] = id_of(begin + i, hashes[i]);
    }
  }

 private:
  struct Slot {
    uint32_t tag, next_id;  // id + 1; 0: the slot is free
  };
  struct First {
    uint64_t hash;
    int64_t row;
  };

  const unsigned char* row(int64_t i) const { return bytes_ + i * width_; }
  bool equal(int64_t i, int64_t j) const {
    return std::memcmp(row(i), row(j), static_cast<size_t>(width_)) == 0;
  }
  static uint32_t tag(uint64_t hash) { return static_cast<uint32_t>(hash >> 32); }

  int64_t id_of(int64_t i, uint64_t hash) {
    for (size_t at = hash & (slots_.size() - 1);; at = (at + 1) & (slots_.size() - 1)) {
      Slot& slot = slots_[at];
      if (!slot.next_id) return add(slot, i, hash);
      const int64_t id = slot.next_id - 1;
      if (slot.tag == tag(hash) && equal(firsts_[static_cast<size_t>(id)].row, i)) return id;
    }
  }

  int64_t add(Slot& slot, int64_t i, uint64_t hash) {
    firsts_.push_back({hash, i});
    slot = {tag(hash), static_cast<uint32_t>(firsts_.size())};
    const int64_t id = static_cast<int64_t>(firsts_.size()) - 1;
    if (2 * firsts_.size() > slots_.size()) grow();
    return id;
  }

  void grow() {
    slots_.assign(4 * slots_.size(), Slot{0, 0});
    for (size_t id = 0; id < firsts_.size(); ++id) {
      size_t at = firsts_[id].hash & (slots_.size() - 1);
      while (slots_[at].next_id) at = (at + 1) & (slots_.size() - 1);
      slots_[at] = {tag(firsts_[id].hash), static_cast<uint32_t>(id + 1)};
    }
  }

  const unsigned char* bytes_;
  int64_t rows_, width_;
  std::vector<Slot> slots_;
  std::vector<First> firsts_;  // of each id
};

}  // namespace

void row_ids(const unsigned char* bytes, int64_t rows, int64_t width, int64_t* ids) {
  Ids(bytes, rows, width).run(ids);
}

}  // namespace gdcore
