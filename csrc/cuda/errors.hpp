// What can go wrong with a GPU, as sentences.
#pragma once

#include <cstddef>
#include <new>
#include <stdexcept>
#include <string>

namespace gdcore::cuda {

// No driver, too old a driver, no GPU, no kernels, a process that was forked: why.
struct Unavailable : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// An error after which the driver refuses all that this process asks for.
struct Broken : std::runtime_error {
  using std::runtime_error::runtime_error;
};

std::string with_size(size_t bytes);  // "4194304 bytes (4 MiB)"

struct OutOfMemory : std::bad_alloc {
  explicit OutOfMemory(size_t bytes);
  explicit OutOfMemory(std::string text) : text_(std::move(text)) {}
  const char* what() const noexcept override { return text_.c_str(); }

 private:
  std::string text_;
};

}  // namespace gdcore::cuda
