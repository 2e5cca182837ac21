// What kernels compiled with --check-addresses call before each access: the outlined checks of the
// compiler's AddressSanitizer, answered byte for byte by what a GPU's thread may touch.
#include "blocks.hpp"

#define CHECKED(bytes)                                          \
  extern "C" void __asan_load##bytes##_noabort(uintptr_t at) {  \
    emulation::check_access(at, bytes, false);                  \
  }                                                             \
  extern "C" void __asan_store##bytes##_noabort(uintptr_t at) { \
    emulation::check_access(at, bytes, true);                   \
  }
CHECKED(1)
CHECKED(2)
CHECKED(4)
CHECKED(8)
CHECKED(16)

namespace {
void check_each(uintptr_t at, size_t bytes, bool writes) {
  for (size_t i = 0; i < bytes; ++i) emulation::check_access(at + i, 1, writes);
}
}  // namespace

extern "C" void __asan_loadN_noabort(uintptr_t at, size_t bytes) { check_each(at, bytes, false); }
extern "C" void __asan_storeN_noabort(uintptr_t at, size_t bytes) { check_each(at, bytes, true); }
extern "C" void __asan_handle_no_return() {}
extern "C" void __asan_before_dynamic_init(const char*) {}
extern "C" void __asan_after_dynamic_init() {}
