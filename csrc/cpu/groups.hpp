// Labels to groups of rows.
#pragma once

#include <memory>
#include <vector>

#include "grouped_rows.hpp"

namespace gdcore {

struct LabelledRows {
  std::shared_ptr<GroupedRows> rows;  // null: a label is outside
  std::vector<int64_t> labels;        // less low, that occur; empty: all of them do
};

// The rows' labels are low, low + 1, ...: `span` of them, or else some are outside.
LabelledRows rows_by_label(const int64_t* labels, int64_t rows, int64_t low, int64_t span);

// An id for each label: 0, 1, 2 and so on in the order in which the labels first come.
struct LabelIds {
  std::unique_ptr<uint32_t[]> ids;  // (rows)
  std::vector<int64_t> labels;      // of each id
};
// At most `most_groups` rows.
LabelIds ids_of_labels(const int64_t* labels, int64_t rows);

// Row i is in group rank[ids[i]]; all groups occur.
std::shared_ptr<GroupedRows> rows_by_rank(std::unique_ptr<uint32_t[]> ids, int64_t rows,
                                          const uint32_t* rank, int64_t groups);

}  // namespace gdcore
