// Rows of bytes to ids.
#pragma once

#include <cstdint>

namespace gdcore {

using std::int64_t;

constexpr int64_t most_rows_with_ids = (int64_t{1} << 32) - 2;

// Writes an id for each row of `width` bytes: equal ones for equal bytes, 0, 1, 2 and so on in the
// order in which they first come. At most `most_rows_with_ids` rows.
void row_ids(const unsigned char* bytes, int64_t rows, int64_t width, int64_t* ids);

}  // namespace gdcore
