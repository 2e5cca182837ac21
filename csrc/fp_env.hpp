// The floating-point mode of the contract: round to nearest, subnormals kept. Restored on the way
// out.
#pragma once

#include <cstdint>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace gdcore {

class FpEnv {
 public:
  FpEnv() : saved_(read()), foreign_((saved_ & mode_bits) != normal) {
    if (foreign_) write(normal);
  }
  ~FpEnv() {
    if (foreign_) write(saved_);
  }
  FpEnv(const FpEnv&) = delete;
  FpEnv& operator=(const FpEnv&) = delete;

 private:
#if defined(__x86_64__)
  using Word = uint32_t;
  static constexpr Word normal = 0x1F80, mode_bits = 0xFFC0;  // the rest are sticky flags
  static Word read() { return _mm_getcsr(); }
  static void write(Word word) { _mm_setcsr(word); }
#elif defined(__aarch64__)
  using Word = uint64_t;
  static constexpr Word normal = 0, mode_bits = ~Word{0};
  static Word read() {
    Word word;
    asm volatile("mrs %0, fpcr" : "=r"(word));
    return word;
  }
  static void write(Word word) { asm volatile("msr fpcr, %0" : : "r"(word) : "memory"); }
#else
#error "gdcore knows the floating-point modes of x86-64 and AArch64 only"
#endif
  Word saved_;
  bool foreign_;
};

}  // namespace gdcore
