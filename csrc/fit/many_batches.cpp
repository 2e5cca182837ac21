#include "fit/many_batches.hpp"

namespace gdcore {

// Small problems in batches that keep the device busy; large ones one by one, if threads share
// them.
template <class T>
int64_t Many<T>::batch_size() const {
  constexpr int64_t large = 1 << 18, least = 16, batches = 64;
  const Problem<T>& p = rows_.all;
  if (!p.device->of_host) return std::clamp<int64_t>(rows_.count, 1, p.device->block);
  if (most_rows_ * (p.d + 1) * p.t > large) return 1;
  const int64_t share = (rows_.count / batches + least - 1) / least * least;
  return std::clamp(share, least, std::max(least, p.device->block));
}

template <class T>
std::unique_ptr<typename Many<T>::Batch> Many<T>::pop() {
  const std::lock_guard lock(queue_.mutex);
  std::unique_ptr<Batch> batch;
  if (!queue_.paused.empty()) {
    batch = std::move(queue_.paused.back());
    queue_.paused.pop_back();
    return batch;
  }
  if (queue_.next == rows_.count) return nullptr;
  if (queue_.unused.empty()) {
    batch = std::make_unique<Batch>();
  } else {
    batch = std::move(queue_.unused.back());
    queue_.unused.pop_back();
  }
  const int64_t first = queue_.next;
  queue_.next = std::min(first + batch_size(), rows_.count);
  batch->restart(first, queue_.next);
  return batch;
}

template <class T>
void Many<T>::push(std::unique_ptr<Batch> batch, bool finished) {
  const std::lock_guard lock(queue_.mutex);
  queue_.done += batch->next - batch->counted;
  batch->counted = batch->next;
  (finished ? queue_.unused : queue_.paused).push_back(std::move(batch));
}

#define GDCORE_INSTANTIATE(T)                              \
  template int64_t Many<T>::batch_size() const;            \
  template std::unique_ptr<Many<T>::Batch> Many<T>::pop(); \
  template void Many<T>::push(std::unique_ptr<Many<T>::Batch>, bool);
GDCORE_INSTANTIATE(float)
GDCORE_INSTANTIATE(double)

}  // namespace gdcore
