// A CUDA driver whose device is this CPU, for tests: kernels run under emulation, in the order they were
// launched. Device memory can be touched by kernels and copies alone: anyone else gets a SIGSEGV.
#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <map>

#include "emulation.hpp"

#define API extern "C" __attribute__((visibility("default")))
using Address = unsigned long long;

namespace {
std::map<Address, size_t> blocks;
size_t used = 0;
long allocations = 0;
size_t total() { const char* t = std::getenv("EMULATION_MEMORY"); return t ? std::strtoull(t, nullptr, 10) : size_t{4} << 30; }
long failing() { const char* t = std::getenv("EMULATION_FAIL_ALLOCATION"); return t ? std::atol(t) : -1; }
struct Open {  // device memory, while a kernel or copy runs
  Open() { set(PROT_READ | PROT_WRITE); }
  ~Open() { set(PROT_NONE); }
  static void set(int protection) { for (auto& [at, size] : blocks) mprotect(reinterpret_cast<void*>(at), size, protection); }
};
bool inside(Address at, size_t bytes) {
  auto it = blocks.upper_bound(at);
  if (it == blocks.begin()) return false;
  --it;
  return at + bytes <= it->first + it->second;
}
void* const context = &blocks;
}  // namespace

API int cuInit(unsigned) {
  if (const char* order = std::getenv("EMULATION_ORDER")) emulation::options.order = std::atoi(order);
  return 0;
}
API int cuDriverGetVersion(int* v) { const char* t = std::getenv("EMULATION_DRIVER"); *v = t ? std::atoi(t) : 13000; return 0; }
API int cuDeviceGetCount(int* n) { const char* t = std::getenv("EMULATION_DEVICES"); *n = t ? std::atoi(t) : 1; return 0; }
API int cuDeviceGet(int* d, int o) { *d = o; return 0; }
API int cuDeviceGetName(char* s, int n, int) { std::snprintf(s, static_cast<size_t>(n), "emulated"); return 0; }
API int cuDeviceGetAttribute(int* v, int a, int) { *v = a == 75 ? 9 : a == 76 ? 0 : a == 16 ? 4 : a == 97 ? 227 << 10 : 0; return 0; }
API int cuDevicePrimaryCtxRetain(void** c, int) { *c = context; return 0; }
API int cuCtxPushCurrent_v2(void*) { return 0; }
API int cuCtxPopCurrent_v2(void** c) { *c = context; return 0; }
API int cuModuleLoadData(void** m, const void*) { *m = context; return 0; }
API int cuModuleGetFunction(void** f, void*, const char* name) { *f = new std::string(name); return 0; }
API int cuFuncSetAttribute(void*, int, int value) { return value > (227 << 10) ? 1 : 0; }
API int cuMemAllocAsync(Address* at, size_t bytes, void*) {
  if (allocations++ == failing() || used + bytes > total()) return 2;
  const size_t size = (bytes + 4095) / 4096 * 4096;
  void* p = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) return 2;
  memset(p, 0xFF, size);  // what is read before it is written is NaN
  mprotect(p, size, PROT_NONE);
  *at = reinterpret_cast<Address>(p);
  blocks[*at] = size;
  used += bytes;
  return 0;
}
API int cuMemFreeAsync(Address at, void*) {
  auto it = blocks.find(at);
  if (it == blocks.end()) return 1;
  munmap(reinterpret_cast<void*>(at), it->second);
  blocks.erase(it);
  return 0;
}
API int cuMemcpyHtoDAsync_v2(Address to, const void* from, size_t n, void*) { if (!inside(to, n)) return 1; Open open; memcpy(reinterpret_cast<void*>(to), from, n); return 0; }
API int cuMemcpyDtoHAsync_v2(void* to, Address from, size_t n, void*) { if (!inside(from, n)) return 1; Open open; memcpy(to, reinterpret_cast<void*>(from), n); return 0; }
API int cuStreamSynchronize(void*) { return 0; }
API int cuLaunchKernel(void* f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, void*, void** params, void**) {
  Open open;
  const char* error = emulation::launch(*static_cast<std::string*>(f), {gx, gy, gz}, {bx, by, bz}, shared, params[0]);
  if (error) std::fprintf(stderr, "emulation: %s\n", error);
  return error ? 1 : 0;
}
API int cuPointerGetAttribute(void* v, int, Address at) { *static_cast<int*>(v) = 0; return inside(at, 1) ? 0 : 1; }
API int cuDeviceTotalMem_v2(size_t* bytes, int) { *bytes = total(); return 0; }
API int cuStreamCreate(void** stream, unsigned) { *stream = context; return 0; }
API int cuMemcpyDtoDAsync_v2(Address to, Address from, size_t n, void*) { if (!inside(to, n) || !inside(from, n)) return 1; Open open; memmove(reinterpret_cast<void*>(to), reinterpret_cast<void*>(from), n); return 0; }
API int cuEventCreate(void** event, unsigned) { *event = context; return 0; }
API int cuEventRecord(void*, void*) { return 0; }
API int cuStreamWaitEvent(void*, void*, unsigned) { return 0; }
API int cuEventDestroy_v2(void*) { return 0; }
API int cuGetErrorString(int e, const char** s) { *s = e == 1 ? "invalid argument" : e == 2 ? "out of memory" : "error"; return 0; }
