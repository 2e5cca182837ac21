// Copies of large arrays between the host's pageable memory and the device: through two pinned
// buffers, so that one is filled or emptied while the other travels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

namespace gdcore::cuda {

// Writes bytes [first, first + bytes) of what is uploaded.
using Fill = std::function<void(void* to, size_t first, size_t bytes)>;

// In the order of the innermost Scope's stream. The source has been read on return.
void upload(void* to, const void* from, size_t bytes);
void upload(void* to, size_t bytes, const Fill& fill);
// Contiguous rows, so many bytes apart, to contiguous memory.
void upload_rows(void* to, const void* from, int64_t rows, size_t row_bytes, int64_t stride_bytes);

// Has arrived on return: waits for the stream.
void download(void* to, const void* from, size_t bytes);

}  // namespace gdcore::cuda
