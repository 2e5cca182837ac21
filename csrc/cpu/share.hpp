// Many small problems shared by threads.
#pragma once

#include <algorithm>

#include "cpu/lane_layout.hpp"
#include "cpu/parallel.hpp"
#include "cpu/threads.hpp"
#include "device.hpp"

namespace gdcore::cpu {

// work(begin, end) for parts of [0, count) that fill lanes.
template <class Work>
void share(int64_t count, int64_t total_work, Work&& work) {
  const int64_t eights = ceil_div(count, int64_t{lanes});
  parallel_for(eights, threads_for(eights, total_work), [&](int64_t begin, int64_t end, int) {
    work(begin * lanes, std::min(count, end * lanes));
  });
}

// in_lanes(begin, count) for neighbours of one size, alone(i) for all others. size(i) is 0 where
// lanes do not take problem i.
template <class Size, class InLanes, class Alone>
void share_lanes(int64_t count, int64_t total_work, Size&& size, InLanes&& in_lanes,
                 Alone&& alone) {
  share(count, total_work, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end;) {
      int64_t held = 0;
      while (i + held < end && held < lanes && size(i + held) > 0 && size(i + held) == size(i))
        ++held;
      if (held > 0)
        in_lanes(i, held);
      else
        alone(i);
      i += std::max<int64_t>(held, 1);
    }
  });
}

}  // namespace gdcore::cpu
