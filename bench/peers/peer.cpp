// The C interface of a peer: one library each, to be loaded by ctypes or the like.
#include "peer.hpp"

#define PEER_API extern "C" __attribute__((visibility("default")))

namespace {

template <class T>
int multiply(const peer::Task& task, const void* a, const void* b, void* c) {
  return peer::multiply<T>(task, static_cast<const T*>(a), static_cast<const T*>(b),
                           static_cast<T*>(c))
             ? 0
             : 1;
}

}  // namespace

// (batch,m,n) c = (batch,m,k) a @ (batch,k,n) b, `repeats` times, of 4 or 8 bytes an element.
// Returns 0, or another number where the peer does not support the task; c is then as it was.
PEER_API int gdcore_peer_matmul(int bytes, int64_t batch, int64_t m, int64_t n, int64_t k,
                                const void* a, const void* b, void* c, int threads,
                                int64_t repeats) {
  const peer::Task task{batch, m, n, k, threads, repeats};
  if (bytes == 4) return multiply<float>(task, a, b, c);
  if (bytes == 8) return multiply<double>(task, a, b, c);
  return 1;
}

PEER_API const char* gdcore_peer_version() { return peer::version(); }
