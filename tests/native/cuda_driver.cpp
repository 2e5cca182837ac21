// What gdcore asks of a CUDA driver, one scenario a run, on the emulated one.
// usage: cuda_driver SCENARIO, with GDCORE_CUDA_DRIVER set. Prints what tests/test_cuda_driver.py
// expects; each error is printed as its sentence.
#include "cuda/driver.hpp"

#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "cuda/info.hpp"
#include "cuda/staging.hpp"
#include "emulation/test_params.hpp"

using namespace gdcore::cuda;

namespace {

template <class F>
F* of_driver(const char* name) {
  static void* const library = dlopen(std::getenv("GDCORE_CUDA_DRIVER"), RTLD_NOW);
  return reinterpret_cast<F*>(dlsym(library, name));
}

void set(const char* name, long long value) {
  of_driver<int(const char*, long long)>("emulation_set")(name, value);
}
size_t bytes_in_use() { return of_driver<size_t()>("emulation_bytes_in_use")(); }

template <class F>
bool attempt(F&& f) {
  try {
    f();
    return true;
  } catch (const std::bad_alloc& error) {
    std::printf("MemoryError: %s\n", error.what());
  } catch (const std::exception& error) {
    std::printf("%s\n", error.what());
  }
  return false;
}

std::vector<float> counted(size_t n) {
  std::vector<float> v(n);
  std::iota(v.begin(), v.end(), 0.0f);
  return v;
}

void add(const void* in, void* out, size_t n, float summand = 1.0f) {
  const AddParams params = {static_cast<const float*>(in), static_cast<float*>(out),
                            static_cast<int64_t>(n), summand};
  launch("test_add", static_cast<int64_t>((n + 255) / 256), 256, 0, params);
}

// Copies so many numbers there, adds one, copies them back: whether they are right.
bool round_trip(size_t n) {
  const std::vector<float> given = counted(n);
  std::vector<float> got(n);
  const size_t bytes = n * sizeof(float);
  const Memory in(bytes), out(bytes);
  upload(in.as<void>(), given.data(), bytes);
  add(in.as<void>(), out.as<void>(), n);
  download(got.data(), out.as<void>(), bytes);
  for (size_t i = 0; i < n; ++i)
    if (got[i] != given[i] + 1.0f) return false;
  return true;
}
void tell(bool right) { std::printf(right ? "right\n" : "WRONG\n"); }

void works() {
  const Scope scope(home_of(0));
  for (const size_t n : {1, 1000, 65536, 1048576, 3333333}) tell(round_trip(n));
}

void errors_come_as_sentences() {
  attempt([] {
    const Scope scope({0, nullptr});
    tell(round_trip(10));
  });
}

void memory() {
  const Scope scope({0, nullptr});
  attempt([] { const Memory too_large(size_t{1} << 40); });
  tell(round_trip(10));
  std::printf("%zu bytes in use\n", bytes_in_use());
}

// Each allocation fails once.
void every_allocation() {
  const Scope scope({0, nullptr});
  for (int k = 1;; ++k) {
    set("fail_allocation", k);
    if (attempt([] { tell(round_trip(1048576)); })) break;
    set("fail_allocation", 0);
    tell(round_trip(10));
    std::printf("%zu bytes in use\n", bytes_in_use());
  }
}

void forks() {
  const Scope scope({0, nullptr});
  std::fflush(stdout);
  if (fork() == 0) {
    attempt([] { tell(round_trip(10)); });
    std::fflush(stdout);
    _exit(0);
  }
  wait(nullptr);
  tell(round_trip(10));
}

void sticky() {
  const Scope scope({0, nullptr});
  set("fail_launch", 1);
  attempt([] { round_trip(10); });
  attempt([] { round_trip(10); });
  attempt([] { const Scope another({0, nullptr}); });
  std::printf("%zu bytes in use\n", bytes_in_use());
}

void not_sticky() {
  const Scope scope({0, nullptr});
  set("fail_launch_with", 701);
  set("fail_launch", 1);
  attempt([] { round_trip(10); });
  tell(round_trip(10));
}

void illegal_access() {
  const Scope scope({0, nullptr});
  std::vector<float> of_host(8);
  attempt([&] {
    add(of_host.data(), of_host.data(), 8);
    synchronize();
  });
  attempt([] { round_trip(10); });
}

void beside() {  // one number more than there is room for
  const Scope scope({0, nullptr});
  attempt([] {
    {
      const Memory in(1024), out(100);
      add(in.as<void>(), out.as<void>(), 26);
    }
    synchronize();
  });
}

void used_after_it_is_freed() {
  const Scope scope({0, nullptr});
  void* stale = nullptr;
  {
    const Memory memory(1024);
    stale = memory.as<void>();
  }
  attempt([&] {
    add(stale, stale, 8);
    synchronize();
  });
}

void stuck() {
  const Scope scope({0, nullptr});
  attempt([] {
    launch("test_stuck", 1, 64, 0, AddParams{});
    synchronize();
  });
}

void host_reads() {
  const Scope scope({0, nullptr});
  const Memory memory(1024);
  std::printf("%g\n", static_cast<double>(*memory.as<float>()));  // SIGSEGV
}

void another_device() {
  attempt([] { const Scope scope({2, nullptr}); });
  auto memory = std::unique_ptr<Memory>();
  {
    const Scope scope({1, nullptr});
    memory = std::make_unique<Memory>(1024);
  }
  std::printf("device %d\n", ordinal_of(memory->as<void>()));
  {
    const Scope scope(home_of(memory->as<void>()));
    add(memory->as<void>(), memory->as<void>(), 8);
    synchronize();
    const Scope inner({0, nullptr});
    tell(round_trip(10));
  }
  memory.reset();  // outside all scopes
  std::printf("%zu bytes in use\n", bytes_in_use());
  const Stream of_another = home_of(1).stream;
  attempt([&] {
    const Scope scope({0, of_another});
    round_trip(10);
  });
  const Scope first({1, nullptr});
  const Memory there(1024);
  const Scope second({0, nullptr});
  attempt([&] {
    add(there.as<void>(), there.as<void>(), 8);
    synchronize();
  });
}

void failing_scope() {
  const Scope outer({0, reinterpret_cast<void*>(2)});
  set("fail_push", 1);
  attempt([] { const Scope scope({1, nullptr}); });
  std::printf("device %d, stream %p\n", current().ordinal, current().stream);
  tell(round_trip(10));
}

void outside() {
  attempt([] { const Memory memory(8); });
  attempt([] { synchronize(); });
}

void limits() {
  const Scope scope({0, nullptr});
  attempt([] { launch("test_add", 1, 256, 300 << 10, AddParams{}); });
  attempt([] { launch("test_add", int64_t{1} << 31, 256, 0, AddParams{}); });
  attempt([] { launch("test_nothing", 1, 256, 0, AddParams{}); });
  attempt([] { launch("test_add", 1, 512, 0, AddParams{}); });
  launch("test_add", 1, 256, 200 << 10, AddParams{});
  synchronize();
  tell(round_trip(10));
}

void managed() {
  const Scope scope({0, nullptr});
  unsigned long long at = 0;
  of_driver<int(unsigned long long*, size_t, unsigned)>("cuMemAllocManaged")(&at, 64, 1);
  attempt([&] { refuse_managed(reinterpret_cast<void*>(at)); });
  const Memory ordinary(64);
  attempt([&] { refuse_managed(ordinary.as<void>()); });
  int on_host = 0;
  attempt([&] { ordinal_of(&on_host); });
}

void streams() {
  for (const uintptr_t handle : {0, 1, 2}) {
    const Scope scope({0, reinterpret_cast<void*>(handle)});
    tell(round_trip(1000));
  }
  const Place mine = home_of(0);
  std::printf(mine.stream == home_of(0).stream ? "same\n" : "OTHER\n");
  Stream theirs = nullptr;
  std::thread([&] {
    theirs = home_of(0).stream;
    const Scope scope(home_of(0));
    tell(round_trip(100000));
  }).join();
  std::printf(mine.stream != theirs ? "another\n" : "SAME\n");
  std::thread([&] { tell(theirs == home_of(0).stream); }).join();  // taken over
}

// What a caller's stream has written is read on another.
void order_of_streams() {
  const std::vector<float> given = counted(1000);
  std::vector<float> got(1000);
  Place caller = home_of(0), own = caller;
  std::thread([&] { own = home_of(0); }).join();
  const Scope outer(caller);
  const Memory memory(4000);
  copy_to_device(memory.as<void>(), given.data(), 4000);
  add(memory.as<void>(), memory.as<void>(), 1000);
  {
    const Scope inner(own);
    wait_for(caller.stream);
    add(memory.as<void>(), memory.as<void>(), 1000);
    copy_to_host(got.data(), memory.as<void>(), 4000);
    synchronize();
  }
  tell(got[0] == 2.0f && got[999] == 1001.0f);
  synchronize(own);
}

void rows() {
  const Scope scope({0, nullptr});
  constexpr size_t n = 30011, d = 70, wide = 100;
  const std::vector<float> given = counted(n * wide);
  std::vector<float> got(n * d);
  const Memory memory(n * d * sizeof(float));
  for (const bool forward : {true, false}) {
    const float* const first = given.data() + (forward ? 0 : (n - 1) * wide);
    const int64_t stride = (forward ? 1 : -1) * static_cast<int64_t>(wide * sizeof(float));
    upload_rows(memory.as<void>(), first, n, d * sizeof(float), stride);
    download(got.data(), memory.as<void>(), got.size() * sizeof(float));
    bool right = true;
    for (size_t i = 0; i < n; ++i)
      for (size_t j = 0; j < d; ++j)
        right = right && got[i * d + j] == given[(forward ? i : n - 1 - i) * wide + j];
    tell(right);
  }
}

// Kernels, temporary memory and copies on the device are captured; nothing runs until the launch.
void capture() {
  void *graph = nullptr, *executable = nullptr;
  const Place place = home_of(0);
  const Scope scope(place);
  const Memory in(4000), out(4000);
  const std::vector<float> given = counted(1000);
  std::vector<float> got(1000);
  of_driver<int(void*, int)>("cuStreamBeginCapture_v2")(place.stream, 0);
  {
    const Memory between(4000);
    add(in.as<void>(), between.as<void>(), 1000);  // the kernels are loaded here
    copy_on_device(out.as<void>(), between.as<void>(), 4000);
  }
  const int error = of_driver<int(void*, void**)>("cuStreamEndCapture")(place.stream, &graph);
  of_driver<int(void**, void*, unsigned long long)>("cuGraphInstantiateWithFlags")(&executable,
                                                                                   graph, 0);
  for (const float summand : {0.0f, 5.0f}) {
    copy_to_device(in.as<void>(), given.data(), 4000);
    add(in.as<void>(), in.as<void>(), 1000, summand);
    of_driver<int(void*, void*)>("cuGraphLaunch")(executable, place.stream);
    copy_to_host(got.data(), out.as<void>(), 4000);
    synchronize();
    tell(error == 0 && got[0] == summand + 1 && got[999] == summand + 1000);
  }
  of_driver<int(void*)>("cuGraphDestroy")(graph);
  of_driver<int(void*)>("cuGraphExecDestroy")(executable);

  of_driver<int(void*, int)>("cuStreamBeginCapture_v2")(place.stream, 0);
  attempt([] { synchronize(); });
  attempt([&] { copy_to_device(in.as<void>(), given.data(), 4000); });
  std::printf("%d\n", of_driver<int(void*, void**)>("cuStreamEndCapture")(place.stream, &graph));
}

void threads() {
  std::vector<std::thread> all;
  std::vector<int> right(8);
  for (size_t i = 0; i < right.size(); ++i)
    all.emplace_back([&right, i] {
      const Scope scope(home_of(static_cast<int>(i % 2)));
      int good = 0;
      for (size_t j = 0; j < 20; ++j) good += round_trip(1000 + 1000 * j * i);
      right[i] = good;
    });
  for (std::thread& thread : all) thread.join();
  tell(right == std::vector<int>(8, 20));
  std::printf("%zu bytes in use\n", bytes_in_use());
}

void reverse(const char* kernel) {
  const Scope scope({0, nullptr});
  const std::vector<float> given = counted(64);
  std::vector<float> got(64);
  const Memory in(256), out(256);
  copy_to_device(in.as<void>(), given.data(), 256);
  launch(kernel, 1, 64, 256, AddParams{in.as<float>(), out.as<float>(), 64, 0.0f});
  copy_to_host(got.data(), out.as<void>(), 256);
  synchronize();
  tell(got[0] == 63.0f && got[63] == 0.0f);
}

void information() {
  const Info known = info();
  std::printf("%s|%s|%zu\n", known.reason.c_str(), known.driver.c_str(), known.devices.size());
  std::fflush(stdout);
  if (fork() == 0) {
    errors_come_as_sentences();
    std::fflush(stdout);
    _exit(0);
  }
  wait(nullptr);
}

const std::map<std::string, void (*)()> scenarios = {
    {"works", works},
    {"sentence", errors_come_as_sentences},
    {"memory", memory},
    {"every_allocation", every_allocation},
    {"forks", forks},
    {"sticky", sticky},
    {"not_sticky", not_sticky},
    {"illegal_access", illegal_access},
    {"beside", beside},
    {"stale", used_after_it_is_freed},
    {"stuck", stuck},
    {"host_reads", host_reads},
    {"another_device", another_device},
    {"failing_scope", failing_scope},
    {"outside", outside},
    {"limits", limits},
    {"managed", managed},
    {"streams", streams},
    {"order_of_streams", order_of_streams},
    {"rows", rows},
    {"capture", capture},
    {"threads", threads},
    {"reverse", [] { reverse("test_reverse"); }},
    {"race", [] { reverse("test_race"); }},
    {"information", information},
};

}  // namespace

int main(int count, char** given) {
  const auto found = scenarios.find(count == 2 ? given[1] : "");
  if (found == scenarios.end()) return 2;
  found->second();
  return 0;
}
