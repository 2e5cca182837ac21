// Aligned memory that a thread keeps between calls, so that small problems allocate nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>

namespace gdcore {

class Scratch {
 public:
  Scratch() = default;
  ~Scratch() { release(); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  // At least `bytes`, aligned to 64; the old content is lost. Throws std::bad_alloc.
  std::byte* reserve(size_t bytes) {
    if (bytes > capacity_) {
      release();
      data_ = static_cast<std::byte*>(::operator new(bytes, alignment));
      capacity_ = bytes;
    }
    return data_;
  }

  template <class T>
  T* reserve_as(int64_t count) {
    size_t bytes = 0;
    if (count < 0 || __builtin_mul_overflow(static_cast<size_t>(count), sizeof(T), &bytes))
      throw std::bad_alloc();
    return reinterpret_cast<T*>(reserve(bytes));
  }

  // Frees large memory; small memory stays for the next call.
  void trim() {
    if (capacity_ > kept) release();
  }

 private:
  static constexpr std::align_val_t alignment{64};
  static constexpr size_t kept = size_t{16} << 20;

  void release() {
    ::operator delete(data_, alignment);
    data_ = nullptr;
    capacity_ = 0;
  }
  std::byte* data_ = nullptr;
  size_t capacity_ = 0;
};

// Rounds a count of T up to whole cache lines.
template <class T>
constexpr int64_t lines(int64_t count) {
  constexpr int64_t line = 64 / sizeof(T);
  return (count + line - 1) / line * line;
}

// What one thread writes to, as far from the next thread's as a prefetcher reads on: to the end of
// a page. Else a core that goes through its own memory takes the other's first lines from it, again
// and again (docs/experiments.md).
template <class T>
constexpr int64_t padded_to_page(int64_t count) {
  constexpr int64_t page = 4096 / sizeof(T);
  return lines<T>(count) + page;
}

}  // namespace gdcore
