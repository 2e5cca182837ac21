#include "cuda/info.hpp"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <type_traits>

#include "cuda/api.hpp"
#include "cuda/fatbin.hpp"

namespace gdcore::cuda {
namespace {

// What a child answers, in memory that it shares with its parent.
struct Answer {
  static constexpr int most = 128;

  bool complete;
  char reason[512];  // empty: the devices follow
  int count;
  DeviceFacts devices[most];
};
static_assert(std::is_trivial_v<Answer>);

void answer(const Api& api, Answer& to) {
  try {
    to.count = std::min(initialize(api), Answer::most);
    for (int ordinal = 0; ordinal < to.count; ++ordinal)
      check(ask(api, ordinal, to.devices[ordinal]), "asking the device");
  } catch (const std::exception& error) {
    std::snprintf(to.reason, sizeof to.reason, "%s", error.what());
  }
  to.complete = true;
}

// Asks in a child. It takes no lock of this process: another thread may hold one.
void answer_in_child(const Api& api, Answer& to) {
  const pid_t child = fork();
  if (child == 0) {
    answer(api, to);
    _exit(0);
  }
  while (child > 0 && waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
  }
  if (!to.complete)
    std::snprintf(to.reason, sizeof to.reason,
                  "the CUDA driver broke off the process that asked it for its GPUs; see whether "
                  "nvidia-smi works.");
}

bool in_use(const Api& api) {
  int count = 0;
  return api_if_open() || api.cuDeviceGetCount(&count) == success;
}

void read_devices(const Api& api, Info& info) {
  void* const shared =
      mmap(nullptr, sizeof(Answer), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) throw std::bad_alloc();
  auto& given = *static_cast<Answer*>(shared);  // zeros
  if (in_use(api))
    answer(api, given);
  else
    answer_in_child(api, given);
  info.reason = given.reason;
  for (int ordinal = 0; info.reason.empty() && ordinal < given.count; ++ordinal) {
    const DeviceFacts& d = given.devices[ordinal];
    info.devices.push_back({{d.name, d.sm, d.multiprocessors, d.memory, d.shared_bytes},
                            architecture_for(d.sm, info.architectures)});
  }
  munmap(shared, sizeof(Answer));
}

}  // namespace

Info info() {
  Info found;
  try {
    const Api api = load_api();
    found.driver = cuda_version(api);
    const std::vector<char> fatbin = read_fatbin();
    found.fatbin = fatbin_path();
    found.fatbin_bytes = fatbin.size();
    found.architectures = architectures_of(fatbin);
    read_devices(api, found);
  } catch (const Unavailable& why) {
    found.reason = why.what();
  }
  return found;
}

}  // namespace gdcore::cuda
