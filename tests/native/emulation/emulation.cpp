#include "emulation.hpp"

#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#if defined(EMULATION_TSAN)  // this file itself is not instrumented: its fibers share everything
#include <sanitizer/tsan_interface.h>
#define TSAN 1
#endif
#if defined(__SANITIZE_ADDRESS__) || TSAN
#define SLOW_SWITCH 1  // the sanitizers follow swapcontext
#endif

namespace emulation {

Options options;
Dim3 grid_dim, block_dim, block_idx, thread_idx;

namespace {

constexpr size_t stack_bytes = 256 << 10;

struct Barrier {
  int arrived = 0;
  long generation = 0;
  char sync[2];  // for ThreadSanitizer, in turns: who comes late must not learn of the next round
};

struct Warp {
  Barrier barrier;
  unsigned mask = 0;
  uint64_t value[2][32];
};

struct Fiber {
  ucontext_t context;
  jmp_buf at;
  char* stack = nullptr;
  Dim3 thread;
  bool done = false, started = false;
  const Barrier* waits = nullptr;
  long generation = 0;
#if TSAN
  void* tsan = nullptr;
#endif
};

struct Entry {
  int threads;
  size_t params_bytes;
  void (*run)(const void*);
};
std::map<std::string, Entry>& table() {
  static std::map<std::string, Entry> kernels;
  return kernels;
}

std::vector<std::unique_ptr<Fiber>> pool;
std::vector<Warp> warps;
Barrier block_barrier;
Fiber* running = nullptr;
ucontext_t scheduler;
[[maybe_unused]] jmp_buf scheduler_at;
int living = 0;
void (*body)(const void*);
const void* arguments;
unsigned char* shared_at = nullptr;
size_t shared_size = 0;
#if TSAN
void* scheduler_tsan = nullptr;
char begun, ended;  // what happens before and after a block
#endif

void leave() {
#if TSAN
  __tsan_switch_to_fiber(scheduler_tsan, __tsan_switch_to_fiber_no_sync);
#endif
#if SLOW_SWITCH
  swapcontext(&running->context, &scheduler);
#else
  if (!_setjmp(running->at)) _longjmp(scheduler_at, 1);
#endif
}

void entry() {
  while (true) {
#if TSAN
    __tsan_acquire(&begun);
#endif
    body(arguments);
#if TSAN
    __tsan_release(&ended);
#endif
    running->done = true;
    --living;
    leave();
  }
}

void enter(Fiber& fiber) {
  running = &fiber;
  thread_idx = fiber.thread;
#if TSAN
  __tsan_switch_to_fiber(fiber.tsan, __tsan_switch_to_fiber_no_sync);
#endif
#if SLOW_SWITCH
  swapcontext(&scheduler, &fiber.context);
#else
  if (_setjmp(scheduler_at)) return;
  if (fiber.started) _longjmp(fiber.at, 1);
  fiber.started = true;
  swapcontext(&scheduler, &fiber.context);  // never comes back here
#endif
}

Fiber& fiber_at(size_t i) {
  while (pool.size() <= i) {
    auto fiber = std::make_unique<Fiber>();
    fiber->stack = static_cast<char*>(mmap(nullptr, stack_bytes, PROT_READ | PROT_WRITE,
                                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    getcontext(&fiber->context);
    fiber->context.uc_stack.ss_sp = fiber->stack;
    fiber->context.uc_stack.ss_size = stack_bytes;
    fiber->context.uc_link = nullptr;
    makecontext(&fiber->context, entry, 0);
#if TSAN
    fiber->tsan = __tsan_create_fiber(0);
#endif
    pool.push_back(std::move(fiber));
  }
  return *pool[i];
}

void wait(Barrier& barrier, int count) {
#if TSAN
  char* const sync = &barrier.sync[barrier.generation & 1];
  __tsan_release(sync);
#endif
  if (++barrier.arrived == count) {
    barrier.arrived = 0;
    ++barrier.generation;
  } else {
    running->waits = &barrier;
    running->generation = barrier.generation;
    Fiber* const self = running;
    leave();
    self->waits = nullptr;
  }
#if TSAN
  __tsan_acquire(sync);
#endif
}

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "emulation: %s (block %u %u %u, thread %u %u %u)\n", what, block_idx.x,
               block_idx.y, block_idx.z, thread_idx.x, thread_idx.y, thread_idx.z);
  std::abort();
}

void run_block(int threads) {
  block_barrier = {};
  warps.assign(static_cast<size_t>((threads + 31) / 32), {});
  living = threads;
  if (options.poison && shared_size) std::memset(shared_at, 0xFF, shared_size);
  std::vector<int> order(static_cast<size_t>(threads));
  std::iota(order.begin(), order.end(), 0);
  if (options.order == 1) std::reverse(order.begin(), order.end());
  std::mt19937 random(static_cast<unsigned>(options.order));
  for (int t = 0; t < threads; ++t) {
    Fiber& fiber = fiber_at(static_cast<size_t>(t));
    fiber.done = false;
    fiber.waits = nullptr;
    const auto u = static_cast<unsigned>(t);
    fiber.thread = {u % block_dim.x, u / block_dim.x % block_dim.y, u / block_dim.x / block_dim.y};
  }
#if TSAN
  __tsan_release(&begun);
#endif
  while (living > 0) {
    if (options.order > 1) std::shuffle(order.begin(), order.end(), random);
    bool moved = false;
    for (const int t : order) {
      Fiber& fiber = *pool[static_cast<size_t>(t)];
      if (fiber.done || (fiber.waits && fiber.waits->generation == fiber.generation)) continue;
      moved = true;
      enter(fiber);
    }
    if (!moved) fail("the block is stuck: some threads wait at a barrier that others never reach");
  }
#if TSAN
  __tsan_acquire(&ended);
#endif
}

}  // namespace

Kernel::Kernel(const char* name, int threads, size_t params_bytes, void (*run)(const void*)) {
  table()[name] = {threads, params_bytes, run};
}

void barrier() {
  if (living != static_cast<int>(block_dim.x * block_dim.y * block_dim.z)) fail("__syncthreads after a thread has returned");
  wait(block_barrier, living);
}

uint64_t exchange(unsigned mask, uint64_t value, int from) {
  const int lane = emulation::lane();
  const Dim3 me = thread_idx;
  Warp& warp = warps[(me.x + block_dim.x * (me.y + block_dim.y * me.z)) / 32];
  if (!(mask >> lane & 1)) fail("a lane shuffles that is not in its own mask");
  if (!(mask >> from & 1)) fail("a shuffle reads a lane that is not in the mask");
  if (warp.barrier.arrived > 0 && warp.mask != mask) fail("lanes of one shuffle name different masks");
  warp.mask = mask;
  uint64_t* const values = warp.value[warp.barrier.generation & 1];
  values[lane] = value;
  wait(warp.barrier, __builtin_popcount(mask));
  return values[from];
}

void* shared_memory(size_t bytes) {
  if (bytes > shared_size) fail("more shared memory is used than was asked for");
  return shared_at;
}

const char* launch(const std::string& name, Dim3 grid, Dim3 block, size_t shared_bytes,
                   const void* params) {
  const auto found = table().find(name);
  if (found == table().end()) return "no such kernel";
  const size_t threads = size_t{block.x} * block.y * block.z;
  if (threads == 0 || threads > 1024) return "a block has 1 to 1024 threads";
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535)
    return "the grid is out of range";
  if (shared_bytes > (227u << 10)) return "too much shared memory";
  if (threads > static_cast<size_t>(found->second.threads))
    return "the block has more threads than the kernel's launch bound";
  const std::vector<unsigned char> copied(
      static_cast<const unsigned char*>(params),
      static_cast<const unsigned char*>(params) + found->second.params_bytes);
  body = found->second.run;
  arguments = copied.data();
  grid_dim = grid;
  block_dim = block;
  void* exact = nullptr;  // so that AddressSanitizer sees one byte too far
  if (shared_bytes && posix_memalign(&exact, 128, shared_bytes)) return "out of memory";
  std::unique_ptr<unsigned char, void (*)(void*)> memory(static_cast<unsigned char*>(exact), std::free);
  shared_at = memory.get();
  shared_size = shared_bytes;
  for (int t = 0; t < static_cast<int>(threads); ++t) fiber_at(static_cast<size_t>(t));
#if TSAN
  scheduler_tsan = __tsan_get_current_fiber();
#endif
  for (unsigned z = 0; z < grid.z; ++z)
    for (unsigned y = 0; y < grid.y; ++y)
      for (unsigned x = 0; x < grid.x; ++x) {
        block_idx = {x, y, z};
        run_block(static_cast<int>(threads));
      }
  return nullptr;
}

}  // namespace emulation
