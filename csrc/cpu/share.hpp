// Many small problems shared by threads.
#pragma once

#include <algorithm>
#include <atomic>

#include "cpu/lane_layout.hpp"
#include "cpu/parallel.hpp"
#include "cpu/threads.hpp"

namespace gdcore::cpu {

// work(begin, end) for parts of [0, count), whoever is free.
template <class Work>
void share(int64_t count, int64_t total_work, Work&& work) {
  const int64_t tasks = ceil_div(count, lanes);
  const Team threads = threads_for(tasks, total_work);
  if (threads == 1) return work(0, count);
  const int64_t part = lanes * std::max<int64_t>(1, tasks / (8 * threads));
  std::atomic<int64_t> next{0};
  parallel_for(threads, threads, [&](int64_t, int64_t, int) {
    for (int64_t begin; (begin = next.fetch_add(part)) < count;)
      work(begin, std::min(count, begin + part));
  });
}

}  // namespace gdcore::cpu
