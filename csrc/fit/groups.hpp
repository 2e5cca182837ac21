// Rows sorted by group, those of a group in their order.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace gdcore {

using std::int64_t;

// starts (groups + 1) and order (rows) of codes in [0, groups); false if one is outside.
inline bool rows_by_group(const int64_t* codes, int64_t rows, int64_t groups, int64_t* starts,
                          int64_t* order) {
  std::fill_n(starts, groups + 1, int64_t{0});
  for (int64_t i = 0; i < rows; ++i) {
    if (codes[i] < 0 || codes[i] >= groups) return false;
    ++starts[codes[i] + 1];
  }
  for (int64_t g = 0; g < groups; ++g) starts[g + 1] += starts[g];
  std::vector<int64_t> next(starts, starts + groups);
  for (int64_t i = 0; i < rows; ++i) order[next[static_cast<size_t>(codes[i])]++] = i;
  return true;
}

}  // namespace gdcore
