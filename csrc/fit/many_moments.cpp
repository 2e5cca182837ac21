#include "fit/many_batches.hpp"
#include "fit/scaling.hpp"

namespace gdcore {

template <class T>
bool Many<T>::prepare(bool curvature_too, bool steepest_too, double seconds) {
  const Wanted wanted{curvature_too, steepest_too};
  return in_batches(
      seconds, [&](Batch& batch, Budget& budget) { return prepare_batch(batch, wanted, budget); });
}

template <class T>
bool Many<T>::prepare_batch(Batch& batch, Wanted wanted, Budget& budget) {
  if (!batch.collected && !packed_.empty())
    rows_.sums ? take_moments(batch) : sum_moments(batch, budget);
  batch.collected = true;
  const bool through = beside_device(batch, budget, [&](int64_t i, InProgress& one) {
    const bool summed = batch.summed[batch.place(i)];
    if (!summed || wanted.steepest || (wanted.curvature && from_rows[i])) return false;
    Budget endless(endless_seconds);
    return prepare_one(i, one, summed, wanted, endless);
  });
  return through && one_by_one(batch, budget, [&](int64_t i) {
           const size_t place = batch.place(i);
           return batch.ended[place] ||
                  prepare_one(i, batch.one, batch.summed[place], wanted, budget);
         });
}

// Moments that one pass over all groups has made.
template <class T>
void Many<T>::take_moments(Batch& batch) {
  batch.moments.resize(1);
  for (int64_t i = batch.begin; i < batch.end; ++i) {
    if (!needs_moments(i) || rows_.starts[i] == rows_.starts[i + 1]) continue;
    rows_.sums->moments(rows_.first_group + i, batch.moments[0]);
    keep_moments(i, batch.moments[0]);
    batch.summed[batch.place(i)] = 1;
  }
}

// The moments of all small problems of a batch, in parts that a first cache holds, or that keep a
// device with its own memory busy.
template <class T>
void Many<T>::sum_moments(Batch& batch, Budget& budget) {
  const Problem<T>& all = rows_.all;
  const Device<T>& device = *all.device;
  const int64_t speed = speed_of(device);
  const int64_t most_bytes = speed << 14, most_work = speed << 18;
  if (all.sample_weight.data) return;  // a problem may have no row of any weight
  const bool packs = device.quadratics_each && !scaled_;
  const int64_t columns = all.d + 1 + all.t, p = all.size() / all.t;
  const int64_t bytes = 16 * (all.d + 1) * columns;
  int64_t most = 1;
  while (2 * most * bytes <= most_bytes && most < batch.end - batch.begin) most *= 2;
  if (!packs) batch.moments.resize(static_cast<size_t>(most));
  int64_t count = 0, work = 0;
  auto run = [&] {
    if (packs)
      device.quadratics_each(count, batch.rows.data(), all.fit_intercept, batch.packed.data());
    else
      device.moments_each(count, batch.rows.data(), batch.moments.data());
    for (int64_t k = 0; k < count; ++k) {
      const int64_t i = batch.who[k];
      bool kept = true;
      if (packs)
        known_[i] = kept = Quadratic<T>::usable(p, all.t, batch.packed[k]);
      else
        keep_moments(i, batch.moments[k]);
      batch.summed[batch.place(i)] = kept;  // what leaves the range is summed once more, by itself
    }
    budget.spent(host_work(device, work));
    count = work = 0;
  };
  batch.rows.assign(static_cast<size_t>(most), {all.args(nullptr), {}});
  batch.who.resize(static_cast<size_t>(most));
  batch.packed.resize(static_cast<size_t>(most));
  for (int64_t i = batch.begin; i < batch.end; ++i) {
    if (!needs_moments(i)) continue;
    ProblemRows<T>& rows = batch.rows[count];
    rows_.locate(i, rows.args, rows.order);
    const int64_t n = rows.args.n, each = n * columns * columns;
    if (n == 0 || each > most_work) continue;
    work += each;
    batch.packed[count] = &packed_[i * packed_size_];
    batch.who[count++] = i;
    if (count == most) run();
  }
  if (count > 0) run();
}

// True when done; otherwise it continues where it was.
template <class T>
bool Many<T>::prepare_one(int64_t i, InProgress& one, bool summed, Wanted wanted, Budget& budget) {
  using Stage = typename InProgress::Stage;
  if (one.stage == Stage::none) {
    if (summed && !wanted.curvature && !wanted.steepest) return true;
    const bool due = needs_moments(i) && !summed;
    const bool rows = due || wanted.steepest || (wanted.curvature && from_rows[i]) ||
                      rows_.all.sample_weight.data;
    one.problem = rows ? open_rows(i, one, budget) : rows_.size_of(i);
    one.problem.scaling = scaling_of(i);
    empty[i] = !has_weight(one.problem);
    if (empty[i]) return true;
    if (due) one.pass.restart(one.problem);
    one.stage = due ? Stage::moments : Stage::moments_known;
  }
  if (one.stage == Stage::moments) {
    if (!one.pass.run(budget)) return false;
    one.pass.moments.close();
    keep_moments(i, one.pass.moments);
    one.problem.scaling = scaling_of(i);
    one.stage = Stage::moments_known;
  }
  if (one.stage == Stage::moments_known) {
    if (!finite[i] || !wanted.curvature) return true;
    if (!from_rows[i]) find_quadratic(i, one.quadratic);
    one.spectrum.restart(one.problem, from_rows[i] ? nullptr : &one.quadratic);
    one.stage = Stage::curvature;
  }
  if (!one.spectrum.advance(budget)) return false;
  curvature[i] = one.spectrum.largest();
  error[i] = one.spectrum.residual();
  finite[i] = std::isfinite(curvature[i]);
  if (wanted.steepest) steepest[i] = largest_row(one.problem);
  return true;
}

template <class T>
void Many<T>::keep_moments(int64_t i, const Moments& moments) {
  finite[i] = moments.finite();
  const bool in_range = moments.in_range(sizeof(T) == 4);
  known_[i] = finite[i] && (in_range || sizeof(T) == 4);
  if (scaled_ && !known_[i]) finite[i] = 0;
  if (!in_range && !scaled_) from_rows[i] = 1;
  if (!known_[i]) return;
  const bool fit_intercept = rows_.all.fit_intercept;
  double* const scaling = scaled_ ? &scalings_[i * (2 * moments.d + moments.t)] : nullptr;
  if (scaled_) find_scaling<T>(moments, fit_intercept, scaling);
  Quadratic<T>::pack(moments, fit_intercept, scaling, &packed_[i * packed_size_]);
}

template <class T>
void Many<T>::find_quadratic(int64_t i, Quadratic<T>& quadratic) const {
  const Problem<T>& p = rows_.all;
  quadratic.assign(p.d, p.t, p.fit_intercept, packed_.data() + i * packed_size_);
}

#define GDCORE_INSTANTIATE(T)                         \
  template bool Many<T>::prepare(bool, bool, double); \
  template void Many<T>::find_quadratic(int64_t, Quadratic<T>&) const;
GDCORE_INSTANTIATE(float)
GDCORE_INSTANTIATE(double)

}  // namespace gdcore
