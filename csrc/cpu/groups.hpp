// Rows sorted by group, those of a group in their order.
#pragma once

#include <cstdint>

namespace gdcore {

using std::int64_t;

enum class Grouping { ordered, in_place, outside };

// The rows' labels are low, low + 1, ...: `groups` of them, or else some are outside. Writes where
// each group begins (groups + 1), and the rows in that order (rows) unless they lie so.
Grouping rows_by_group(const int64_t* labels, int64_t rows, int64_t low, int64_t groups,
                       int64_t* starts, int64_t* order);

}  // namespace gdcore
