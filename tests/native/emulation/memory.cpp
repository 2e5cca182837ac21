#include "memory.hpp"

#include <sys/mman.h>

#include <cstdio>
#include <cstring>

namespace emulation {
namespace {

constexpr size_t page = 4096, alignment = 256;
constexpr size_t range = size_t{1} << 38;
// A larger block is poisoned at both ends only: tests of large strides touch little of it.
constexpr size_t largest_poisoned = size_t{256} << 20, poisoned_end = size_t{1} << 20;

size_t round_up(size_t bytes, size_t to) { return (bytes + to - 1) / to * to; }
unsigned char* pointer(Address at) { return reinterpret_cast<unsigned char*>(at); }

// Beside a block: NaNs too, but none that a kernel makes.
unsigned char margin(Address at) {
  constexpr unsigned char pattern[] = {0xA5, 0xA5, 0xF5, 0x7F};
  return pattern[at % sizeof pattern];
}
void fill_margin(Address first, Address end) {
  for (Address at = first; at < end; ++at) *pointer(at) = margin(at);
}
bool is_margin(Address first, Address end) {
  for (Address at = first; at < end; ++at)
    if (*pointer(at) != margin(at)) return false;
  return true;
}

void fill(Address first, Address end) {
  if (end - first <= largest_poisoned) {
    std::memset(pointer(first), 0xFF, end - first);
  } else {
    std::memset(pointer(first), 0xFF, poisoned_end);
    std::memset(pointer(end - poisoned_end), 0xFF, poisoned_end);
  }
}

}  // namespace

Memory::Memory() : guards_(memfd_create("emulated-guards", MFD_CLOEXEC)) {
  void* const at = mmap(nullptr, range, PROT_NONE, MAP_SHARED | MAP_NORESERVE, guards_, 0);
  if (guards_ < 0 || at == MAP_FAILED) {
    std::perror("emulation: reserving addresses");
    begin_ = next_ = 0;
    return;
  }
  begin_ = next_ = reinterpret_cast<Address>(at) + page;
}

const Memory::Block* Memory::block_of(Address at, size_t bytes) const {
  auto found = blocks_.upper_bound(at);
  if (found == blocks_.begin()) return nullptr;
  --found;
  return at + bytes <= found->first + found->second.bytes ? &found->second : nullptr;
}

bool Memory::is_managed(Address at) const {
  const Block* const block = block_of(at, 1);
  return block && block->managed;
}

// Where pages of so many bytes fit, with a guard page behind; 0: nowhere.
Address Memory::gap(size_t bytes) {
  const Address end = begin_ + range - page;
  if (begin_ == 0 || bytes + page > range - page) return 0;
  for (int rounds = 0; rounds < 2; ++rounds) {
    for (auto block = blocks_.lower_bound(next_); block != blocks_.end(); ++block) {
      if (next_ + bytes + page <= block->second.first_page) return next_;
      next_ = block->second.end + page;
    }
    if (next_ + bytes + page <= end) return next_;
    next_ = begin_;
  }
  return 0;
}

Address Memory::allocate(size_t bytes, bool managed) {
  const size_t pages = round_up(bytes, page);
  const Address first = gap(pages);
  const int protection = is_open() ? PROT_READ | PROT_WRITE : PROT_NONE;
  if (!first || mmap(pointer(first), pages, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED)
    return 0;
  const Address at = first + pages - round_up(bytes, alignment);
  fill_margin(first, at);
  fill(at, at + bytes);
  fill_margin(at + bytes, first + pages);
  mprotect(pointer(first), pages, protection);
  blocks_[at] = {first, first + pages, bytes, managed};
  next_ = first + pages + page;
  used_ += bytes;
  return at;
}

void Memory::check_margins(Address at, const Block& block) {
  open();
  if (!is_margin(block.first_page, at) || !is_margin(at + block.bytes, block.end)) {
    std::fprintf(stderr, "emulation: something was written beside a block of %zu bytes\n",
                 block.bytes);
    overrun_ = true;
  }
  close();
}

bool Memory::free(Address at) {
  const auto found = blocks_.find(at);
  if (found == blocks_.end()) return false;
  const Block block = found->second;
  check_margins(at, block);
  used_ -= block.bytes;
  blocks_.erase(found);
  // Guards again, mapped at the place that their neighbours have in the file, so that they merge.
  mmap(pointer(block.first_page), block.end - block.first_page, PROT_NONE,
       MAP_SHARED | MAP_NORESERVE | MAP_FIXED, guards_,
       static_cast<off_t>(block.first_page + page - begin_));
  return true;
}

void Memory::poison(Address at) {
  const auto found = blocks_.find(at);
  if (found != blocks_.end()) fill(at, at + found->second.bytes);
}

void Memory::protect(int protection) {
  if (blocks_.empty()) return;
  const Address first = blocks_.begin()->second.first_page;
  const Address end = blocks_.rbegin()->second.end;
  mprotect(pointer(first), end - first, protection);
}

void Memory::open() {
  if (opened_++ == 0) protect(PROT_READ | PROT_WRITE);
}
void Memory::close() {
  if (--opened_ == 0) protect(PROT_NONE);
}

}  // namespace emulation
