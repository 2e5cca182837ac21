#include "cpu/groups.hpp"

#include <algorithm>
#include <stdexcept>

namespace gdcore {
namespace {

// How many rows each group has, to where each begins.
void to_starts(std::vector<int64_t>& counts) {
  int64_t total = 0;
  for (int64_t& entry : counts) {
    const int64_t count = entry;
    entry = total;
    total += count;
  }
}

// Labels in rising order: where each begins.
std::vector<int64_t> starts_in_place(const int64_t* labels, int64_t rows, int64_t low,
                                     int64_t span) {
  std::vector<int64_t> starts(static_cast<size_t>(span) + 1);
  int64_t i = 0;
  for (int64_t g = 0; g <= span; starts[g++] = i)
    while (i < rows && labels[i] - low < g) ++i;
  return starts;
}

// Removes the groups without rows from `starts`; returns the others.
std::vector<int64_t> drop_empty(std::vector<int64_t>& starts) {
  std::vector<int64_t> kept;
  const int64_t span = static_cast<int64_t>(starts.size()) - 1;
  for (int64_t g = 0; g < span; ++g) {
    if (starts[g] == starts[g + 1]) continue;
    starts[kept.size()] = starts[g];
    kept.push_back(g);
  }
  starts[kept.size()] = starts[span];
  starts.resize(kept.size() + 1);
  return kept;
}

bool has_empty(const std::vector<int64_t>& starts) {
  return std::adjacent_find(starts.begin(), starts.end()) != starts.end();
}

// A hash table with open addressing.
class Ids {
 public:
  Ids() : slots_(1024) {}

  void run(const int64_t* labels, int64_t rows, LabelIds& out) {
    constexpr int64_t block = 32;  // rows whose slots are fetched together
    for (int64_t begin = 0; begin < rows; begin += block) {
      const int64_t end = std::min(rows, begin + block);
      for (int64_t i = begin; i < end; ++i) __builtin_prefetch(&slots_[place(labels[i])]);
      for (int64_t i = begin; i < end; ++i) out.ids[i] = id_of(labels[i], out.labels);
    }
  }

 private:
  struct Slot {
    int64_t label;
    int64_t next_id;  // id + 1; 0: the slot is free
  };

  size_t place(int64_t label) const {
    constexpr uint64_t odd = 0x9E3779B97F4A7C15;
    const auto bits = static_cast<uint64_t>(label);
    const uint64_t h = (bits ^ bits >> 32) * odd;
    return static_cast<size_t>(h ^ h >> 32) & (slots_.size() - 1);
  }

  uint32_t id_of(int64_t label, std::vector<int64_t>& labels) {
    for (size_t at = place(label);; at = (at + 1) & (slots_.size() - 1)) {
      Slot& slot = slots_[at];
      if (slot.next_id && slot.label == label) return static_cast<uint32_t>(slot.next_id - 1);
      if (slot.next_id) continue;
      labels.push_back(label);
      const auto id = static_cast<int64_t>(labels.size());
      slot = {label, id};
      if (2 * labels.size() > slots_.size()) grow(labels);
      return static_cast<uint32_t>(id - 1);
    }
  }

  void grow(const std::vector<int64_t>& labels) {
    slots_.assign(4 * slots_.size(), Slot{0, 0});
    for (size_t id = 0; id < labels.size(); ++id) {
      size_t at = place(labels[id]);
      while (slots_[at].next_id) at = (at + 1) & (slots_.size() - 1);
      slots_[at] = {labels[id], static_cast<int64_t>(id) + 1};
    }
  }

  std::vector<Slot> slots_;
};

}  // namespace

// Another thread may change the labels meanwhile, so each is read once; only the rising ones at
// the start are read twice.
LabelledRows rows_by_label(const int64_t* labels, int64_t rows, int64_t low, int64_t span) {
  if (span > most_groups) throw std::length_error("more than 2**32 - 2 labels");
  const int64_t rising = std::is_sorted_until(labels, labels + rows) - labels;
  LabelledRows found;
  std::vector<int64_t> starts;
  std::unique_ptr<uint32_t[]> group;
  if (rising == rows) {
    if (rows > 0 &&
        (labels[0] < low || static_cast<uint64_t>(labels[rows - 1]) - static_cast<uint64_t>(low) >=
                                static_cast<uint64_t>(span)))
      return found;
    starts = starts_in_place(labels, rows, low, span);
  } else {
    starts.assign(static_cast<size_t>(span) + 1, 0);
    group.reset(new uint32_t[static_cast<size_t>(rows)]);
    for (int64_t i = 0; i < rows; ++i) {
      const uint64_t code = static_cast<uint64_t>(labels[i]) - static_cast<uint64_t>(low);
      if (code >= static_cast<uint64_t>(span)) return found;
      ++starts[code];
      group[i] = static_cast<uint32_t>(code);
    }
    to_starts(starts);
  }
  if (has_empty(starts)) {
    found.labels = drop_empty(starts);
    if (group) {
      std::vector<uint32_t> rank(static_cast<size_t>(span));
      for (size_t g = 0; g < found.labels.size(); ++g)
        rank[found.labels[g]] = static_cast<uint32_t>(g);
      for (int64_t i = 0; i < rows; ++i) group[i] = rank[group[i]];
    }
  }
  found.rows = std::make_shared<GroupedRows>(std::move(starts), std::move(group));
  return found;
}

LabelIds ids_of_labels(const int64_t* labels, int64_t rows) {
  LabelIds found{std::unique_ptr<uint32_t[]>(new uint32_t[static_cast<size_t>(rows)]), {}};
  Ids().run(labels, rows, found);
  return found;
}

std::shared_ptr<GroupedRows> rows_by_rank(std::unique_ptr<uint32_t[]> ids, int64_t rows,
                                          const uint32_t* rank, int64_t groups) {
  std::vector<int64_t> starts(static_cast<size_t>(groups) + 1, 0);
  for (int64_t i = 0; i < rows; ++i) ++starts[ids[i] = rank[ids[i]]];
  to_starts(starts);
  if (std::is_sorted(ids.get(), ids.get() + rows)) ids.reset();
  return std::make_shared<GroupedRows>(std::move(starts), std::move(ids));
}

}  // namespace gdcore
