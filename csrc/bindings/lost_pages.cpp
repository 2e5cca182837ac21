// Turns SIGBUS from a truncated file mapping, or a failed disk, into a count of lost pages; any
// other SIGBUS goes to the previous handler. Until LostPages close, a lost page of their memory
// reads as zeros.
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <mutex>

#include "bindings/arrays.hpp"
#include "bindings/register.hpp"

namespace py = pybind11;

namespace gdcore {
namespace {

// The handler reads the table. It must not take a lock, so the table has a fixed size.
struct Slot {
  std::atomic<uintptr_t> begin{0}, end{0};     // of whole pages; unused if end is 0
  std::atomic<uintptr_t> first{0}, beyond{0};  // of the lost pages
  std::atomic<int64_t> lost{0};
};
constexpr int slots = 1024;
Slot table[slots];
std::atomic<uintptr_t> page_size{0};
std::atomic<bool> passed_on{false};  // the previous handler runs; it may call this one again

std::mutex mutex;  // guards the variables below
bool taken[slots];
int living = 0;
struct sigaction before;

bool map_over(uintptr_t begin, uintptr_t end, int protection, int flags, int file) {
  void* const at = reinterpret_cast<void*>(begin);
  return mmap(at, end - begin, protection, flags | MAP_FIXED, file, 0) == at;
}

// Makes later reads fail, as those of the lost file would, instead of finding zeros.
void make_unreadable(uintptr_t begin, uintptr_t end) {
#ifdef MFD_CLOEXEC
  const int empty = memfd_create("gdcore-lost", MFD_CLOEXEC);
  if (empty < 0) return;
  map_over(begin, end, PROT_READ, MAP_SHARED, empty);
  ::close(empty);
#else  // macOS has no files without a name
  map_over(begin, end, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
#endif
}

bool replaced(uintptr_t address) {
  const uintptr_t page = address & ~(page_size - 1), next = page + page_size;
  bool ours = false;
  for (Slot& slot : table) {
    if (address < slot.begin || address >= slot.end) continue;
    if (!ours && !map_over(page, next, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1))
      return false;
    ours = true;
    for (uintptr_t was = slot.first; page < was && !slot.first.compare_exchange_weak(was, page);) {
    }
    for (uintptr_t was = slot.beyond;
         next > was && !slot.beyond.compare_exchange_weak(was, next);) {
    }
    ++slot.lost;
  }
  return ours;
}

void handle(int signal, siginfo_t* info, void* context) {
  const int error = errno;
  const bool ours =
      info->si_code == BUS_ADRERR && replaced(reinterpret_cast<uintptr_t>(info->si_addr));
  errno = error;
  if (ours) return;
  if (passed_on.exchange(true))
    ::signal(signal, SIG_DFL);
  else if (before.sa_flags & SA_SIGINFO)
    before.sa_sigaction(signal, info, context);
  else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN)
    before.sa_handler(signal);
  else
    ::signal(signal, SIG_DFL);  // the read is tried again and ends the process
  passed_on = false;
}

void install() {
  struct sigaction ours{};
  ours.sa_sigaction = handle;
  ours.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&ours.sa_mask);
  sigaction(SIGBUS, &ours, &before);
}

void uninstall() {
  struct sigaction now;
  sigaction(SIGBUS, nullptr, &now);
  if ((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == handle)
    sigaction(SIGBUS, &before, nullptr);
}

class LostPages {
 public:
  explicit LostPages(py::array memory) : memory_(std::move(memory)) {
    auto begin = reinterpret_cast<uintptr_t>(memory_.data()), end = begin;
    for (py::ssize_t k = 0; k < memory_.ndim(); ++k) {
      const auto span = static_cast<uintptr_t>((memory_.shape(k) - 1) * memory_.strides(k));
      (memory_.strides(k) < 0 ? begin : end) += span;
    }
    if (memory_.size() > 0) end += static_cast<uintptr_t>(memory_.itemsize());
    const std::lock_guard<std::mutex> lock(mutex);
    for (slot_ = 0; slot_ < slots && taken[slot_];) ++slot_;
    if (slot_ == slots) throw std::runtime_error("too many arrays of mapped files at one time.");
    page_size = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
    taken[slot_] = true;
    Slot& slot = table[slot_];
    slot.lost = 0;
    slot.first = UINTPTR_MAX;
    slot.beyond = 0;
    slot.begin = begin & ~(page_size - 1);
    slot.end = memory_.size() > 0 ? end : 0;
    if (living++ == 0) install();
  }
  LostPages(const LostPages&) = delete;
  LostPages& operator=(const LostPages&) = delete;
  ~LostPages() { close(); }

  void close() {
    const std::lock_guard<std::mutex> lock(mutex);
    if (slot_ < 0) return;
    Slot& slot = table[slot_];
    slot.end = 0;
    lost_ = slot.lost;
    if (lost_ > 0) make_unreadable(slot.first, slot.beyond);
    taken[slot_] = false;
    slot_ = -1;
    if (--living == 0) uninstall();
  }

  int64_t count() const { return slot_ < 0 ? lost_ : table[slot_].lost.load(); }

 private:
  py::array memory_;  // keeps it mapped
  int slot_ = 0;      // -1: closed
  int64_t lost_ = 0;
};

}  // namespace

void register_lost_pages(py::module_& m) {
  py::class_<LostPages>(m, "LostPages")
      .def(py::init<py::array>(), py::arg("memory"))
      .def("close", &LostPages::close)
      .def_property_readonly("count", &LostPages::count);
}

}  // namespace gdcore
