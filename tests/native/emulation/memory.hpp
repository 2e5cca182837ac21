// The memory of one emulated device: an address range that can be touched only while it is open.
// Blocks start as NaNs, end at a guard page, and are never given out again at the same address.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>

namespace emulation {

using Address = unsigned long long;

class Memory {
 public:
  Memory();

  Address allocate(size_t bytes, bool managed);  // 0: the machine has no room
  bool free(Address at);                         // false if no block starts there
  bool holds(Address at, size_t bytes) const { return block_of(at, bytes) != nullptr; }
  bool is_managed(Address at) const;
  void poison(Address at);  // the block becomes NaNs again; must be open
  void open();
  void close();
  bool is_open() const { return opened_ > 0; }
  size_t used() const { return used_; }
  bool overrun() const { return overrun_; }  // something was written beside a block

 private:
  struct Block {
    Address first_page, end;  // end: of its last page; a guard page follows
    size_t bytes;
    bool managed;
  };
  const Block* block_of(Address at, size_t bytes) const;
  Address gap(size_t bytes);
  void protect(int protection);
  void check_margins(Address at, const Block& block);

  int guards_;  // an empty file: pages that map it fault whatever their protection
  Address begin_, next_;
  std::map<Address, Block> blocks_;  // by the address of their first byte
  size_t used_ = 0;
  bool overrun_ = false;
  int opened_ = 0;
};

}  // namespace emulation
