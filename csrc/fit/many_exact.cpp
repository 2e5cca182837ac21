#include "fit/many_batches.hpp"
#include "fit/normal_lanes.hpp"

namespace gdcore {

template <class T>
bool Many<T>::solve(const ExactOptions& options, double seconds) {
  const Problem<T>& p = rows_.all;
  if (options.covariance != Covariance::none && inferences.flaw.empty())
    inferences.reset(rows_.count, p.size() / p.t, p.t);
  const bool in_lanes =
      options.covariance == Covariance::none && packed_ && NormalLanes<T>::serve(p, options);
  return in_batches(seconds, [&](Batch& batch, Budget& budget) {
    if (in_lanes && !batch.collected) solve_lanes(options, batch);
    batch.collected = true;
    return one_by_one(batch, budget, [&](int64_t i) {
      return batch.ended[batch.place(i)] || solve_one(i, options, batch, budget);
    });
  });
}

// The problems of a batch whose moments suffice, as most do, eight at a time.
template <class T>
void Many<T>::solve_lanes(const ExactOptions& options, Batch& batch) {
  constexpr int lanes = NormalLanes<T>::lanes;
  NormalLanes<T> normal(rows_.all, options);
  int64_t who[lanes];
  int held = 0;
  const auto run = [&] {
    const unsigned solved = normal.solve();
    for (int lane = 0; lane < held; ++lane) {
      if (!(solved >> lane & 1)) continue;
      const int64_t i = who[lane];
      normal.write(lane, params_of(i), &states_.loss[i]);
      rank[i] = parameters();
      states_.outcome[i] = Outcome::converged;
      batch.ended[batch.place(i)] = 1;
    }
    held = 0;
  };
  for (int64_t i = batch.begin; i < batch.end; ++i) {
    if (options_.skip[i] || from_rows[i]) continue;
    const double* const packed = &packed_[i * packed_size_];
    LinearSums sums;
    sums.sample_weight = Quadratic<T>::tail(parameters(), 1, packed).sample_weight();
    const double count = rows_.all.count(rows_.rows_of(i), sums);
    normal.load(held, packed, scale_of(rows_.all.reduction, count).divisor,
                options_.weight_decay[i]);
    who[held++] = i;
    if (held == lanes) run();
  }
  if (held > 0) run();
}

template <class T>
bool Many<T>::solve_one(int64_t i, ExactOptions options, Batch& batch, Budget& budget) {
  using Stage = typename InProgress::Stage;
  options.weight_decay = options_.weight_decay[i];
  InProgress& one = batch.one;
  bool infers = options.covariance != Covariance::none;
  if (infers && (options_.skip[i] || options.weight_decay != 0)) {
    const Problem<T> rows = rows_.gathered(i, one.gathered);
    inferences.df_resid[i] = rows_that_count(rows) - rows.size() / rows.t;
    infers = false;
  }
  if (!infers) options.covariance = Covariance::none;
  if (options_.skip[i]) return true;
  if (rows_.sums) {
    unsolved[i] = !solve_moments(i, options, batch, budget);
    return true;
  }
  if (one.stage == Stage::none) {
    if (solve_moments(i, options, batch, budget)) {
      if (!infers) return true;
      begin_inference(i, options, one, budget);
    } else {
      one.problem = open_rows(i, one, budget);
      one.exact.emplace(one.problem, options);
      one.stage = Stage::opened;
    }
  }
  if (one.stage == Stage::opened) {
    if (!one.exact->advance(budget)) return false;
    const auto solution = one.exact->solve(infers ? &one.inference.solved : nullptr);
    one.exact.reset();
    keep_solution(i, solution.params, solution.rank);
    states_.loss[i] = loss_of_rows(i, budget);
    if (!infers) return true;
    begin_inference(i, options, one, budget);
  }
  if (one.inference.needs_rows() && !one.inference.run(budget)) return false;
  one.inference.write(inferences.at(i));
  return true;
}

template <class T>
void Many<T>::begin_inference(int64_t i, const ExactOptions& options, InProgress& one,
                              Budget& budget) {
  one.inference.begin(options.covariance);
  if (one.inference.needs_rows()) {
    if (one.stage == InProgress::Stage::none) one.problem = open_rows(i, one, budget);
    one.inference.begin_rows(one.problem);
  }
  one.stage = InProgress::Stage::inference;
}

template <class T>
bool Many<T>::solve_moments(int64_t i, const ExactOptions& options, Batch& batch, Budget& budget) {
  if (from_rows[i]) return false;
  NormalEquations<T>& normal = batch.one.normal;
  const Problem<T> size = rows_.size_of(i);
  const int64_t p = size.size() / size.t;
  const double* const packed = &packed_[i * packed_size_];
  budget.spent(p * p * (p + size.t));
  if (!normal.solve(size, packed, options)) return false;
  if (rows_.sums && !normal.loss_known()) return false;
  keep_solution(i, normal.params(), p);
  if (options.covariance != Covariance::none)
    normal.describe(size, packed, batch.one.inference.solved);
  states_.loss[i] = normal.loss_known() ? normal.loss() : loss_of_rows(i, budget);
  return true;
}

template <class T>
void Many<T>::keep_solution(int64_t i, const std::vector<T>& params, int64_t rank_of_rows) {
  std::copy(params.begin(), params.end(), params_of(i));
  rank[i] = rank_of_rows;
  states_.outcome[i] = Outcome::converged;
}

#define GDCORE_INSTANTIATE(T) template bool Many<T>::solve(const ExactOptions&, double);
GDCORE_INSTANTIATE(float)
GDCORE_INSTANTIATE(double)

}  // namespace gdcore
