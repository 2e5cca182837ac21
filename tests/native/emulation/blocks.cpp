#include "blocks.hpp"

#include <link.h>
#include <setjmp.h>
#include <signal.h>
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
#define SLOW_SWITCH 1  // the sanitizers follow swapcontext alone
#endif

namespace emulation {

Dim3 grid_dim, block_dim, block_idx, thread_idx;
bool backward_mma = false;

namespace {

constexpr size_t stack_bytes = 256 << 10;
constexpr size_t shared_alignment = 128;

struct Barrier {
  int arrived = 0;
  long generation = 0;
  char sync[2];  // for ThreadSanitizer, in turns: a late thread must not learn of the next round
};

// Lanes of a warp that wait for each other. A warp may be split into groups with disjoint masks.
struct Group {
  unsigned mask;
  Barrier barrier;
  uint64_t value[2][32];
};
struct Warp {
  std::vector<std::unique_ptr<Group>> groups;

  Group& of(unsigned mask) {
    for (auto& group : groups)
      if (group->mask == mask) return *group;
    groups.push_back(std::make_unique<Group>());
    groups.back()->mask = mask;
    return *groups.back();
  }
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

  ~Fiber() { munmap(stack, stack_bytes); }
};

struct Entry {
  int threads;
  size_t params_bytes;
  void (*run)(const void*);
};
std::map<std::string, Entry>& table() {
  static auto& entries = *new std::map<std::string, Entry>;
  return entries;
}

auto& pool = *new std::vector<std::unique_ptr<Fiber>>;
auto& warps = *new std::vector<Warp>;
Barrier block_barrier;
Fiber* running = nullptr;
ucontext_t scheduler;
[[maybe_unused]] jmp_buf scheduler_at;
int living = 0;
void (*body)(const void*);
const void* arguments;
size_t arguments_size = 0;
const Memory* device_memory = nullptr;
unsigned char* shared_at = nullptr;
size_t shared_size = 0;
sigjmp_buf failed_at;  // where a launch that breaks off goes on
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

std::unique_ptr<Fiber> new_fiber() {
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
  return fiber;
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
    Fiber* const self = running;
    self->waits = &barrier;
    self->generation = barrier.generation;
    leave();
    self->waits = nullptr;
  }
#if TSAN
  __tsan_acquire(sync);
#endif
}

// The values of the mask's lanes once all of them have come; valid until the next call.
const uint64_t* gather(unsigned mask, uint64_t value) {
  const int here = lane();
  if (!(mask >> here & 1)) fail("a lane calls a warp function whose mask leaves it out");
  const Dim3 me = thread_idx;
  Group& group = warps[(me.x + block_dim.x * (me.y + block_dim.y * me.z)) / 32].of(mask);
  uint64_t* const values = group.value[group.barrier.generation & 1];
  values[here] = value;
  wait(group.barrier, __builtin_popcount(mask));
  return values;
}

bool waits(const Fiber& fiber) {
  return fiber.waits && fiber.waits->generation == fiber.generation;
}

void begin_block(int threads) {
  block_barrier = {};
  warps.clear();
  warps.resize(static_cast<size_t>((threads + 31) / 32));
  living = threads;
  std::fill_n(shared_at, shared_size, static_cast<unsigned char>(0xFF));  // NaNs
  for (int t = 0; t < threads; ++t) {
    Fiber& fiber = *pool[static_cast<size_t>(t)];
    fiber.done = false;
    fiber.waits = nullptr;
    const auto u = static_cast<unsigned>(t);
    fiber.thread = {u % block_dim.x, u / block_dim.x % block_dim.y, u / block_dim.x / block_dim.y};
  }
}

// Lets each thread that can run do so, in this order; false if none can.
bool run_round(const std::vector<int>& order) {
  bool moved = false;
  for (const int t : order) {
    Fiber& fiber = *pool[static_cast<size_t>(t)];
    if (fiber.done || waits(fiber)) continue;
    moved = true;
    enter(fiber);
  }
  return moved;
}

void run_block(std::vector<int>& order, std::mt19937* shuffled) {
  begin_block(static_cast<int>(order.size()));
#if TSAN
  __tsan_release(&begun);
#endif
  while (living > 0) {
    if (shuffled) std::shuffle(order.begin(), order.end(), *shuffled);
    if (!run_round(order))
      fail("the block is stuck: some threads wait at a barrier that others never reach");
  }
#if TSAN
  __tsan_acquire(&ended);
#endif
}

void run_grid(const LaunchShape& shape, int how) {
  std::vector<int> order(size_t{shape.block.x} * shape.block.y * shape.block.z);
  std::iota(order.begin(), order.end(), 0);
  if (how == 1) std::reverse(order.begin(), order.end());
  std::mt19937 random(static_cast<unsigned>(how));
  for (unsigned z = 0; z < shape.grid.z; ++z)
    for (unsigned y = 0; y < shape.grid.y; ++y)
      for (unsigned x = 0; x < shape.grid.x; ++x) {
        block_idx = {x, y, z};
        run_block(order, how > 1 ? &random : nullptr);
      }
}

void tell(const char* what) {
  std::fprintf(stderr, "emulation: %s (block %u %u %u, thread %u %u %u)\n", what, block_idx.x,
               block_idx.y, block_idx.z, thread_idx.x, thread_idx.y, thread_idx.z);
}

bool within(uintptr_t at, size_t bytes, const void* first, size_t size) {
  const auto from = reinterpret_cast<uintptr_t>(first);
  return at >= from && at + bytes <= from + size;
}

// The addresses that this library is mapped to: constants, and what the language itself keeps.
bool is_of_library(uintptr_t at) {
  struct Range {
    uintptr_t first = 0, end = 0;
  };
  static const Range range = [] {
    Range found;
    dl_iterate_phdr(
        [](dl_phdr_info* info, size_t, void* to) {
          Range own;
          for (int i = 0; i < info->dlpi_phnum; ++i)
            if (info->dlpi_phdr[i].p_type == PT_LOAD) {
              const uintptr_t first = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
              if (own.first == 0) own.first = first;
              own.end = first + info->dlpi_phdr[i].p_memsz;
            }
          const auto here = reinterpret_cast<uintptr_t>(&is_of_library);
          if (own.first <= here && here < own.end) *static_cast<Range*>(to) = own;
          return 0;
        },
        &found);
    return found;
  }();
  return at >= range.first && at < range.end;
}

bool may_touch(uintptr_t at, size_t bytes, bool writes) {
  return within(at, bytes, running->stack, stack_bytes) ||
         within(at, bytes, shared_at, shared_size) || device_memory->holds(at, bytes) ||
         (!writes && within(at, bytes, arguments, arguments_size)) || is_of_library(at);
}

[[noreturn]] void break_off(Outcome outcome) {
#if SLOW_SWITCH
  std::abort();
#else
  siglongjmp(failed_at, static_cast<int>(outcome));
#endif
}

// While it lives, touching memory that is not the device's ends the launch.
class Faults {
 public:
#if SLOW_SWITCH  // a sanitizer reports faults itself
  Faults() {}
#else
  Faults() {
    static char* const stack = new char[stack_size];
    stack_t alternative{};
    alternative.ss_sp = stack;
    alternative.ss_size = stack_size;
    sigaltstack(&alternative, &stack_before_);
    struct sigaction action{};
    action.sa_sigaction = [](int, siginfo_t* info, void*) {
      char text[80];
      std::snprintf(text, sizeof text, "illegal access to %p", info->si_addr);
      tell(text);
      break_off(Outcome::illegal_address);
    };
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, &before_[0]);
    sigaction(SIGBUS, &action, &before_[1]);
  }
  ~Faults() {
    sigaction(SIGSEGV, &before_[0], nullptr);
    sigaction(SIGBUS, &before_[1], nullptr);
    sigaltstack(&stack_before_, nullptr);
  }

 private:
  static constexpr size_t stack_size = 64 << 10;
  struct sigaction before_[2];
  stack_t stack_before_;
#endif
};

}  // namespace

Kernel::Kernel(const char* name, int threads, size_t params_bytes, void (*run)(const void*)) {
  table()[name] = {threads, params_bytes, run};
}

void fail(const char* what) {
  tell(what);
  break_off(Outcome::failed);
}

void check_access(uintptr_t at, size_t bytes, bool writes) {
  if (!device_memory) return;  // kernels register themselves
  if (at % bytes == 0 && may_touch(at, bytes, writes)) return;
  char text[80];
  std::snprintf(text, sizeof text, "%s of %zu bytes at %p",
                writes ? "illegal write" : "illegal read", bytes, reinterpret_cast<void*>(at));
  tell(text);
  break_off(Outcome::illegal_address);
}

void barrier() {
  if (living != static_cast<int>(block_dim.x * block_dim.y * block_dim.z))
    fail("__syncthreads after a thread has returned");
  wait(block_barrier, living);
}

uint64_t exchange(unsigned mask, uint64_t value, int from) {
  if (!(mask >> from & 1)) fail("a shuffle reads a lane that is not in its mask");
  return gather(mask, value)[from];
}

unsigned ballot(unsigned mask, bool yes) {
  const uint64_t* const answers = gather(mask, yes);
  unsigned all = 0;
  for (int lane = 0; lane < 32; ++lane)
    if (mask >> lane & 1 && answers[lane]) all |= 1u << lane;
  return all;
}

void* shared_memory(size_t bytes) {
  if (bytes > shared_size) fail("more shared memory is used than was asked for");
  return shared_at;
}

bool is_kernel(const std::string& name) { return table().count(name) > 0; }
size_t params_bytes(const std::string& kernel) { return table().at(kernel).params_bytes; }

const char* refusal(const std::string& kernel, const LaunchShape& shape) {
  const auto [grid, block, shared_bytes] = shape;
  const size_t threads = size_t{block.x} * block.y * block.z;
  if (threads == 0 || threads > 1024) return "a block has 1 to 1024 threads";
  if (grid.x == 0 || grid.x > 0x7fffffffu) return "the grid's x is out of range";
  if (grid.y == 0 || grid.y > 65535 || grid.z == 0 || grid.z > 65535)
    return "the grid's y and z are 1 to 65535";
  if (threads > static_cast<size_t>(table().at(kernel).threads))
    return "the block has more threads than the kernel's launch bound";
  return nullptr;
}

Outcome run(const std::string& kernel, const LaunchShape& shape, const void* params,
            const Memory& memory_of_device, int order) {
  body = table().at(kernel).run;
  arguments = params;
  arguments_size = table().at(kernel).params_bytes;
  device_memory = &memory_of_device;
  grid_dim = shape.grid;
  block_dim = shape.block;
  void* exact = nullptr;  // so that AddressSanitizer sees one byte too far
  if (shape.shared_bytes && posix_memalign(&exact, shared_alignment, shape.shared_bytes))
    return Outcome::failed;
  const std::unique_ptr<void, void (*)(void*)> memory(exact, std::free);
  shared_at = static_cast<unsigned char*>(exact);
  shared_size = shape.shared_bytes;
  const size_t threads = size_t{shape.block.x} * shape.block.y * shape.block.z;
  while (pool.size() < threads) pool.push_back(new_fiber());
#if TSAN
  scheduler_tsan = __tsan_get_current_fiber();
#endif
  const Faults faults;
  if (const int failed = sigsetjmp(failed_at, 1)) {
    pool.clear();  // abandoned where they were
    return static_cast<Outcome>(failed);
  }
  run_grid(shape, order);
  return Outcome::done;
}

}  // namespace emulation
