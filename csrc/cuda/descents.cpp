// Descents of many problems at a time, the epochs asked for in one launch: those on quadratics of
// few parameters a thread each, those on larger ones and on rows a block each. Whatever else there
// is, is the host's, or loops over this device's passes.
#include <algorithm>
#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "cuda/device_rows.hpp"
#include "cuda/driver.hpp"
#include "cuda/kernels/descents_params.hpp"
#include "cuda/launch.hpp"
#include "cuda/operations.hpp"
#include "descend.hpp"
#include "host.hpp"

namespace gdcore::cuda {
namespace {

template <class T>
using Descents = std::vector<const DescentArgs<T>*>;

constexpr int64_t most_bytes = int64_t{1} << 28;  // of one launch's columns

int64_t records_of(int64_t every, int64_t epoch, int64_t epochs) {
  return every == 0 ? 0 : (epoch + epochs) / every - epoch / every;
}

// The columns of some descents of `size` parameters, in one block of memory.
template <class T>
class Columns {
 public:
  // sums: entries of `sums`, of each.
  Columns(const Descents<T>& descents, int64_t size, int64_t sums)
      : descents_(descents), size_(size), sums_(sums) {
    for (const DescentArgs<T>* q : descents) {
      const int64_t records = records_of(q->every, *q->epoch, q->epochs);
      if (q->losses) losses_ = std::max(losses_, records);
      if (q->recorded) recorded_ = std::max(recorded_, records * size);
    }
    lay_out(nullptr, host_);
    bytes_ = new unsigned char[written_];
    owner_.reset(bytes_);
    lay_out(bytes_, host_);
    on_threads([&](int64_t i) { put(i, *descents_[i]); });
  }

  // The bytes that a problem takes, records included.
  static int64_t bytes_of(const DescentArgs<T>& q, int64_t sums) {
    const int64_t records = records_of(q.every, *q.epoch, q.epochs);
    const int64_t numbers =
        3 * q.size + 3 + (q.losses ? records : 0) + (q.recorded ? records * q.size : 0);
    return 8 * (sums + 12) + static_cast<int64_t>(sizeof(T)) * numbers;
  }

  QuadraticDescents<T> to_device() {
    memory_.emplace(written_);
    auto* const at = memory_->template as<unsigned char>();
    copy_to_device(at, bytes_, read_);
    QuadraticDescents<T> device;
    lay_out(at, device);
    return device;
  }

  void from_device() {
    auto* const at = memory_->template as<unsigned char>();
    copy_to_host(bytes_ + changed_, at + changed_, written_ - changed_);
    synchronize();
    on_threads([&](int64_t i) { keep(i, *descents_[i]); });
  }

 private:
  int64_t count() const { return static_cast<int64_t>(descents_.size()); }

  // First the columns that the kernel only reads, then those that it reads and writes, then those
  // that it only writes. One copy takes the first two to the device, another the last two back.
  void lay_out(unsigned char* base, QuadraticDescents<T>& to) {
    constexpr size_t alignment = 16;
    size_t at = 0;
    const auto column = [&](auto*& start, int64_t entries) {
      start = reinterpret_cast<std::remove_reference_t<decltype(start)>>(base + at);
      const size_t bytes = static_cast<size_t>(entries * count()) * sizeof(*start);
      at += (bytes + alignment - 1) / alignment * alignment;
    };
    DescentColumns<T>& c = to.columns;
    c.count = count();
    column(to.sums, sums_);
    double** const rates[] = {&c.divisor,    &c.gradient, &c.lr,    &c.weight_decay,
                              &c.norm_bound, &c.momentum, &c.damped};
    for (double** rate : rates) column(*rate, 1);
    column(c.epochs, 1);
    column(c.every, 1);
    column(c.decayed, 1);
    column(c.choices, 1);
    changed_ = at;
    column(c.epoch, 1);
    column(c.params, size_);
    column(c.velocity, size_);
    column(c.first_loss, 1);
    column(c.last_loss, 1);
    column(c.state, 1);
    read_ = at;
    column(c.previous, size_);
    column(c.loss, 1);
    column(c.losses, losses_);
    column(c.recorded, recorded_);
    written_ = at;
    if (losses_ == 0) c.losses = nullptr;
    if (recorded_ == 0) c.recorded = nullptr;
  }

  // each(i) for all descents.
  template <class Each>
  void on_threads(Each&& each) const {
    constexpr int64_t part = 512, work_of_number = 8;
    const int64_t work = count() * (sums_ + 4 * size_ + 32) * work_of_number;
    std::atomic<int64_t> next{0};
    host::on_threads(ceil_div(count(), part), work, [&] {
      for (int64_t first; (first = next.fetch_add(part)) < count();)
        for (int64_t i = first; i < std::min(count(), first + part); ++i) each(i);
    });
  }

  void put(int64_t i, const DescentArgs<T>& q) const {
    const int64_t n = count();
    const DescentColumns<T>& c = host_.columns;
    for (int64_t e = 0; e < sums_; ++e) host_.sums[e * n + i] = q.quadratic[e];
    c.divisor[i] = q.scale.divisor;
    c.gradient[i] = q.scale.gradient;
    c.lr[i] = q.lr;
    c.weight_decay[i] = q.sgd.weight_decay;
    c.norm_bound[i] = q.norm_bound;
    c.momentum[i] = q.sgd.momentum;
    c.damped[i] = 1.0 - q.sgd.dampening;
    c.epochs[i] = q.epochs;
    c.every[i] = q.every;
    c.decayed[i] = static_cast<int32_t>(q.decayed);
    c.choices[i] = (q.sgd.nesterov ? nesterov : 0u) | (q.sgd.maximize ? maximize : 0u) |
                   (q.stop_on_equal_loss ? stop_on_equal_loss : 0u) | (q.loss ? measures_end : 0u);
    c.epoch[i] = *q.epoch;
    c.first_loss[i] = *q.first_loss;
    c.last_loss[i] = *q.last_loss;
    c.state[i] = (*q.moving ? moving : 0u) | (*q.moved ? moved : 0u);
    const bool has_velocity = q.sgd.momentum != 0 && *q.moving;
    for (int64_t j = 0; j < size_; ++j) {
      c.params[j * n + i] = q.params[j];
      c.velocity[j * n + i] = has_velocity ? q.velocity[j] : T(0);
    }
  }

  // What the device has left of descent i.
  void keep(int64_t i, const DescentArgs<T>& q) const {
    const int64_t n = count();
    const DescentColumns<T>& c = host_.columns;
    const int64_t done = c.epoch[i] - *q.epoch, records = records_of(q.every, *q.epoch, done);
    *q.may_end = (c.state[i] & may_end) != 0;
    if (q.loss) *q.loss = c.loss[i];
    if (done == 0) return;
    for (int64_t j = 0; j < size_; ++j) {
      q.params[j] = c.params[j * n + i];
      q.previous[j] = c.previous[j * n + i];
      if (q.sgd.momentum != 0) q.velocity[j] = c.velocity[j * n + i];
    }
    *q.first_loss = c.first_loss[i];
    *q.last_loss = c.last_loss[i];
    *q.moving = (c.state[i] & moving) != 0;
    *q.moved = (c.state[i] & moved) != 0;
    *q.epoch += done;
    for (int64_t r = 0; q.losses && r < records; ++r) q.losses[r] = c.losses[r * n + i];
    for (int64_t e = 0; q.recorded && e < records * size_; ++e)
      q.recorded[e] = c.recorded[e * n + i];
  }

  const Descents<T>& descents_;
  int64_t size_, sums_, losses_ = 0, recorded_ = 0;
  size_t changed_ = 0, read_ = 0, written_ = 0;  // ends of the columns, in bytes
  std::unique_ptr<unsigned char[]> owner_;
  unsigned char* bytes_ = nullptr;
  QuadraticDescents<T> host_{};
  std::optional<Memory> memory_;
};

// work(part) for parts of the descents whose columns are one launch's.
template <class T, class Work>
void in_parts(const Descents<T>& descents, int64_t sums, Work&& work) {
  Descents<T> part;
  int64_t bytes = 0;
  for (const DescentArgs<T>* q : descents) {
    const int64_t more = Columns<T>::bytes_of(*q, sums);
    if (!part.empty() && bytes + more > most_bytes) {
      work(part);
      part.clear();
      bytes = 0;
    }
    part.push_back(q);
    bytes += more;
  }
  if (!part.empty()) work(part);
}

// ---- Quadratics ----

// What fits the registers of a thread; and the shared memory of some blocks, a thread a parameter.
template <class T>
constexpr int64_t most_of_thread = sizeof(T) == 4 ? 8 : 6;
constexpr int64_t most_of_block = 64;

template <class T>
bool suits_device(const DescentArgs<T>& q) {
  return any_element(q.rows.args) && q.rows.args.t == 1 && q.size >= 1 && q.size <= most_of_block;
}

// The host has done them before a launch and its copies are.
template <class T>
bool are_few(const Descents<T>& descents) {
  constexpr int64_t fewest = 64, least_work = 1 << 17;
  int64_t work = 0;
  for (const DescentArgs<T>* q : descents) work += (q->epochs + 1) * (q->size * q->size + 16);
  return static_cast<int64_t>(descents.size()) < fewest || work < least_work;
}

template <class T>
void descend_on_quadratics(const Descents<T>& descents, int64_t size) {
  const Scope scope(home_of(any_element(descents[0]->rows.args)));
  const int64_t sums = PackedQuadratic<T>::packed_size(size, 1);
  in_parts(descents, sums, [&](const Descents<T>& part) {
    Columns<T> columns(part, size, sums);
    auto params = columns.to_device();
    const int64_t count = params.columns.count;
    params.parameters = static_cast<int>(size);
    if (size <= most_of_thread<T>) {
      constexpr int threads = 128;
      const std::string kernel = "descend_quadratics_" + std::to_string(size);
      launch(kernel_of<T>(kernel.c_str()).c_str(), ceil_div(count, threads), threads, 0, params);
    } else {
      launch(kernel_of<T>("descend_wide_quadratics").c_str(), count, most_of_block,
             quadratic_descent_bytes<T>(params.parameters), params);
    }
    columns.from_device();
  });
}

// ---- Rows ----

// Rows of a tile: about 16 KB of them in shared memory, a multiple of 16.
template <class T>
int tile_rows_of(int64_t d, int64_t n) {
  const int64_t fit =
      (int64_t{16} << 10) / (static_cast<int64_t>(sizeof(T)) * tile_stride(static_cast<int>(d)));
  const int64_t needed = ceil_div(std::min(n, L<T>), V) * V;
  return static_cast<int>(std::clamp<int64_t>(fit / V * V, V, needed));
}

// One chain of segments, of one target, from shared memory.
template <class T>
bool suits_a_block(const DescentArgs<T>& q) {
  constexpr size_t most_shared = 64 << 10;
  const LinearArgs<T>& rows = q.rows.args;
  return any_element(rows) && rows.t == 1 && rows.n <= chain_terms<T> && rows.d <= 4096 &&
         !rows.order && rows.first == 0 &&
         row_descent_bytes<T>(static_cast<int>(rows.d), V) <= most_shared;
}

// Descents on rows of d features, with or without an intercept.
template <class T>
void descend_on_rows(const Descents<T>& descents) {
  const LinearArgs<T>& first = descents[0]->rows.args;
  const Scope scope(home_of(any_element(descents[0]->rows.args)));
  const auto d = static_cast<int>(first.d);
  const int64_t size = descents[0]->size, scales = 2 * d + 1;
  in_parts(descents, 0, [&](const Descents<T>& part) {
    const auto count = static_cast<int64_t>(part.size());
    int64_t most_rows = 0;
    std::vector<int64_t> order;
    std::vector<double> scaling;
    for (const DescentArgs<T>* q : part) {
      const LinearArgs<T>& rows = q->rows.args;
      most_rows = std::max(most_rows, rows.n);
      if (q->rows.order.rows)
        order.insert(order.end(), q->rows.order.rows, q->rows.order.rows + rows.n);
      if (rows.scaling) scaling.insert(scaling.end(), rows.scaling, rows.scaling + scales);
    }
    const Memory orders(order.size() * sizeof(int64_t)), scalings(scaling.size() * sizeof(double)),
        tables(part.size() * sizeof(DescentRows<T>));
    std::vector<DescentRows<T>> table;
    const auto* next_order = orders.as<int64_t>();
    const auto* next_scaling = scalings.as<double>();
    for (const DescentArgs<T>* q : part) {
      const LinearArgs<T>& rows = q->rows.args;
      table.push_back({{d, rows.X.data, rows.y.data, rows.offset.data, rows.sample_weight.data,
                        rows.X.rs, rows.X.cs, rows.y.rs, rows.offset.rs, rows.sample_weight.stride,
                        rows.scaling ? next_scaling : nullptr, rows.loss},
                       rows.n,
                       q->rows.order.rows ? next_order : nullptr,
                       rows.intercept.data != nullptr});
      if (q->rows.order.rows) next_order += rows.n;
      if (rows.scaling) next_scaling += scales;
    }
    copy_to_device(orders.as<void>(), order.data(), order.size() * sizeof(int64_t));
    copy_to_device(scalings.as<void>(), scaling.data(), scaling.size() * sizeof(double));
    copy_to_device(tables.as<void>(), table.data(), table.size() * sizeof(DescentRows<T>));
    Columns<T> columns(part, size, 0);
    RowDescents<T> params;
    params.columns = columns.to_device().columns;
    params.rows = tables.as<DescentRows<T>>();
    params.tile_rows = tile_rows_of<T>(d, most_rows);
    const int threads = most_rows > L<T> || d > 32 ? 256 : 128;
    launch(kernel_of<T>("descend_rows").c_str(), count, threads,
           row_descent_bytes<T>(d, params.tile_rows), params);
    columns.from_device();
  });
}

// A block takes some microseconds for a segment, a pass over all multiprocessors some tens for as
// many as they hold.
template <class T>
bool faster_by_passes(const DescentArgs<T>& q, int64_t descents) {
  constexpr int64_t segments_of_a_pass = 8, most_at_once = 256;
  return ceil_div(q.rows.args.n, L<T>) > segments_of_a_pass * std::min(descents, most_at_once);
}

// ---- All ----

template <class T>
void on_host(const Descents<T>& descents) {
  std::vector<DescentArgs<T>> each;
  each.reserve(descents.size());
  for (const DescentArgs<T>* q : descents) each.push_back(*q);
  if (!each.empty()) host_device<T>().descend_each(static_cast<int64_t>(each.size()), each.data());
}

// Those for which same(q, first of them) holds, taken from `left`.
template <class T, class Same>
Descents<T> take_alike(Descents<T>& left, Same&& same) {
  const DescentArgs<T>& first = *left[0];
  const auto alike = [&](const DescentArgs<T>* q) { return same(*q, first); };
  const auto rest = std::stable_partition(left.begin(), left.end(), alike);
  Descents<T> taken(left.begin(), rest);
  left.erase(left.begin(), rest);
  return taken;
}

}  // namespace

template <class T>
void descend_each(int64_t count, const DescentArgs<T>* descents) {
  if (count == 1 && descents->quadratic) return host_device<T>().descend_each(1, descents);
  Descents<T> quadratics, rows, host, by_passes;
  for (int64_t i = 0; i < count; ++i) {
    const DescentArgs<T>& q = descents[i];
    if (q.quadratic)
      (suits_device(q) ? quadratics : host).push_back(&q);
    else
      (suits_a_block(q) && !faster_by_passes(q, count) ? rows : by_passes).push_back(&q);
  }
  while (!quadratics.empty()) {
    const Descents<T> alike = take_alike(
        quadratics, [](const auto& q, const auto& first) { return q.size == first.size; });
    if (are_few(alike))
      host.insert(host.end(), alike.begin(), alike.end());
    else
      descend_on_quadratics(alike, alike[0]->size);
  }
  on_host(host);
  while (!rows.empty())
    descend_on_rows(take_alike(rows, [](const auto& q, const auto& first) {
      return q.size == first.size && q.rows.args.d == first.rows.args.d;
    }));
  if (by_passes.empty()) return;
  PlainDescents<T> plain(cuda_device<T>(), host::quadratic<T>);
  for (const DescentArgs<T>* q : by_passes) plain.run(*q);
}
template void descend_each(int64_t, const DescentArgs<float>*);
template void descend_each(int64_t, const DescentArgs<double>*);

}  // namespace gdcore::cuda
