#include "bindings/result_memory.hpp"

#include <vector>

#if defined(__linux__)
#include <sys/mman.h>

#include <algorithm>
#include <iterator>
#include <mutex>
#endif

namespace gdcore {
#if defined(__linux__)
namespace {

constexpr size_t huge_page = size_t{2} << 20;
// NumPy allocates results smaller than `large`. At most `most_kept` bytes of freed blocks are kept.
constexpr size_t large = size_t{8} << 20, most_kept = size_t{128} << 20;

struct Block {
  void* data;
  size_t bytes;  // whole huge pages
};

// The blocks that no result has, oldest first.
struct Kept {
  Kept() { blocks.reserve(most_kept / large); }  // an owner that ends must not throw
  std::mutex mutex;
  std::vector<Block> blocks;
  size_t bytes = 0;
};
Kept& kept() {
  static Kept& all = *new Kept;  // results may be freed after static objects are
  return all;
}

// Returns a kept block of exactly this size, or null.
void* take_kept(size_t bytes) {
  Kept& all = kept();
  const std::lock_guard<std::mutex> lock(all.mutex);
  const auto last = std::find_if(all.blocks.rbegin(), all.blocks.rend(),
                                 [&](const Block& block) { return block.bytes == bytes; });
  if (last == all.blocks.rend()) return nullptr;
  void* const data = last->data;
  all.blocks.erase(std::next(last).base());
  all.bytes -= bytes;
  return data;
}

void keep(const Block& block) {
#if defined(MADV_FREE)
  if (block.bytes <= most_kept && madvise(block.data, block.bytes, MADV_FREE) == 0) {
    Kept& all = kept();
    const std::lock_guard<std::mutex> lock(all.mutex);
    while (all.bytes + block.bytes > most_kept) {
      munmap(all.blocks.front().data, all.blocks.front().bytes);
      all.bytes -= all.blocks.front().bytes;
      all.blocks.erase(all.blocks.begin());
    }
    all.blocks.push_back(block);
    all.bytes += block.bytes;
    return;
  }
#endif
  munmap(block.data, block.bytes);
}

// Aligned to a huge page, or null.
void* map(size_t bytes) {
  void* const at =
      mmap(nullptr, bytes + huge_page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) return nullptr;
  char* const begin = static_cast<char*>(at);
  const size_t before = (huge_page - reinterpret_cast<size_t>(begin) % huge_page) % huge_page;
  if (before > 0) munmap(begin, before);
  if (before < huge_page) munmap(begin + before + bytes, huge_page - before);
  madvise(begin + before, bytes, MADV_HUGEPAGE);
  return begin + before;
}

}  // namespace

py::array empty_result(const Dims& shape, bool single) {
  size_t bytes = 0;
  const auto count = static_cast<size_t>(product(shape));
  if (__builtin_mul_overflow(count, single ? sizeof(float) : sizeof(double), &bytes) ||
      bytes < large || bytes > SIZE_MAX - 2 * huge_page)
    return empty_numpy(shape, single);
  bytes = (bytes + huge_page - 1) / huge_page * huge_page;
  void* data = take_kept(bytes);
  if (!data) data = map(bytes);
  if (!data) return empty_numpy(shape, single);
  const auto block = new Block{data, bytes};
  const py::capsule owner(block, [](void* p) {
    keep(*static_cast<Block*>(p));
    delete static_cast<Block*>(p);
  });
  return py::array(float_dtype(single), std::vector<py::ssize_t>(shape.begin(), shape.end()), data,
                   owner);
}
#else
py::array empty_result(const Dims& shape, bool single) { return empty_numpy(shape, single); }
#endif

}  // namespace gdcore
