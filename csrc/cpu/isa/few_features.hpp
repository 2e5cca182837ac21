// The linear model of up to 16 features.
#pragma once

#include "fold.hpp"
#include "residuals.hpp"
#include "rows.hpp"

namespace {

// Segments read in turns. Measured: 4 beat 2 and 8.
constexpr int lockstep = 4;

// The lines 4 KiB after 16 rows.
template <class T, int D>
inline void prefetch_rows(const T* x) {
#pragma GCC unroll 32
  for (int at = 0; at < 16 * D; at += 64 / static_cast<int>(sizeof(T)))
    prefetch(x + at, prefetch_bytes);
}

// ---- Up to 4 features: one vector a column ----

template <class T, int D>
struct Columns {
  static constexpr int N = W<T>, most = D, sums = D;
  typedef Lanes16<T> Sum;

  vec<T> weights[D];
  Columns(const T* w, index_t) {
    for (int j = 0; j < D; ++j) weights[j] = broadcast(w[j]);
  }

  // Columns of N rows at x, `left` of them there.
  template <bool Whole>
  static inline void read(const T* x, index_t left, vec<T>* column) {
#pragma GCC unroll 4
    for (int j = 0; j < D; ++j)
      column[j] = Whole ? load(x + j * N) : load_first(x + j * N, at_most(N, left * D - j * N));
    columns<T, D>(column, typename FirstIndices<N>::type());
  }

  static constexpr index_t d() { return D; }

  template <bool Whole>
  inline vec<T> dots(const T* x, index_t left) const {
    vec<T> column[D];
    read<Whole>(x, left, column);
    return products(column);
  }

  // With the weights: 1, 2 or 4 lanes, folded.
  inline vec<T> products(const vec<T>* column) const {
    constexpr int lanes = static_cast<int>(gdcore::lanes_of(D));
    vec<T> v[lanes] = {};
#pragma GCC unroll 4
    for (int j = 0; j < D; ++j) v[j] = fma(column[j], weights[j], vec<T>{});
#pragma GCC unroll 2
    for (int half = lanes / 2; half >= 1; half /= 2)
#pragma GCC unroll 2
      for (int j = 0; j < half; ++j) v[j] += v[j + half];
    return v[0];
  }

  template <bool Whole, class Loss>
  inline __attribute__((always_inline)) void rows(const T* X, index_t i, index_t n,
                                                  Residuals<T, Loss>& residuals,
                                                  Lanes16<T>* acc) const {
#pragma GCC unroll 8
    for (int h = 0; h < Lanes16<T>::H; ++h) {
      const index_t row = i + h * N, left = n - row;
      if (!Whole && left <= 0) break;
      const int lanes = at_most(N, left);
      vec<T> column[D];
      read<Whole>(X + row * D, left, column);
      const vec<T> r = residuals.template take<Whole>(products(column), i, h, lanes);
#pragma GCC unroll 4
      for (int j = 0; j < D; ++j) {
        const vec<T> sum = fma(r, column[j], acc[j].h[h]);
        acc[j].h[h] = Whole ? sum : keep_first(lanes, sum, acc[j].h[h]);
      }
    }
  }

  inline void finish(const Lanes16<T>* acc, T* grad) const {
#pragma GCC unroll 4
    for (int j = 0; j < D; ++j) grad[j] = sum16(acc[j]);
  }
};

// ---- Up to 16: 8 or 16 lanes a row ----

constexpr int nine_to_fifteen = 15;  // 9 to 15 features, their number known at run time

// One vector holds `rows_each` rows, or one row lies in `parts` vectors. Every gradient entry is
// two chains over the rows, even and odd ones.
template <class T, int D>
struct RowLanes {
  static constexpr int N = W<T>, most = D, P = static_cast<int>(gdcore::lanes_of(D));
  static constexpr int lanes = P < N ? P : N;  // of a row in one vector
  static constexpr int rows_each = N / lanes, parts = P / lanes, sums = 2 * P / N;
  typedef vec<T> Sum;

  index_t features;
  vec<T> weights[parts];
  First<T> used[parts];  // lanes
  RowLanes(const T* w, index_t d) : features(d) {
    T lane[16] = {};
    for (int i = 0; i < 16; ++i) lane[i] = i % P < d ? w[i % P] : T(0);
    for (int q = 0; q < parts; ++q) {
      weights[q] = load(lane + q * N);
      used[q] = first_lanes<T>(at_most(N, d - q * N));
    }
  }

  inline index_t d() const { return D == nine_to_fifteen ? features : D; }

  // Part Q of the rows at x, `left` of them there.
  template <bool Whole, int Q>
  inline vec<T> read(const T* x, index_t left) const {
    if constexpr (Whole && D == P) return load(x + Q * N);
    if constexpr (rows_each == 1) {
      const int width = at_most(N, d() - Q * N);  // of a row in this part
      if (Whole && D != nine_to_fifteen && width == N) return load(x + Q * N);
      if (Whole && D == nine_to_fifteen) return load(x + Q * N, used[Q]);
      return load_first(x + Q * N, Whole || left > 0 ? width : 0);
    }
    return pad_rows<T, D, P>(load_first(x, (Whole ? rows_each : at_most(rows_each, left)) * D),
                             typename FirstIndices<N>::type());
  }

  // Products of N rows.
  template <bool Whole>
  inline __attribute__((always_inline)) vec<T> dots(const T* x, index_t left) const {
    vec<T> v[lanes];
    unroll<lanes>([&](auto s) {
      constexpr int row = s.value * rows_each;
      vec<T> part[parts];
      unroll<parts>([&](auto q) {
        part[q.value] =
            fma(read<Whole, q.value>(x + row * d(), left - row), weights[q.value], vec<T>{});
      });
#pragma GCC unroll 3
      for (int half = parts / 2; half >= 1; half /= 2)
#pragma GCC unroll 4
        for (int q = 0; q < half; ++q) part[q] += part[q + half];
      v[s.value] = part[0];
    });
    return row_sums<T, lanes>(v);
  }

  // acc += residuals times N rows.
  template <bool Whole>
  inline __attribute__((always_inline)) void add(const T* x, vec<T> residuals, index_t left,
                                                 vec<T>* acc) const {
    T r[N];
    if constexpr (rows_each == 1) store(r, residuals);
    unroll<lanes>([&](auto s) {
      constexpr int row = s.value * rows_each;
      // If a row is one vector, its sums are too many instructions for the processor to look as
      // far ahead as the next 16 rows.
      if constexpr (rows_each == 1 && parts == 1) prefetch(x + (row + 16) * d(), 0);
      vec<T> factor;
      if constexpr (rows_each == 1)
        factor = broadcast(r[row]);
      else
        factor = spread<T, lanes, s.value>(residuals);
      unroll<parts>([&](auto q) {
        vec<T>& sum = acc[(s.value * parts + q.value) % sums];
        const vec<T> next = fma(factor, read<Whole, q.value>(x + row * d(), left - row), sum);
        sum = Whole ? next : keep_first(at_most(N, (left - row) * P - q.value * N), next, sum);
      });
    });
  }

  template <bool Whole, class Loss>
  inline __attribute__((always_inline)) void rows(const T* X, index_t i, index_t n,
                                                  Residuals<T, Loss>& residuals,
                                                  vec<T>* acc) const {
#pragma GCC unroll 8
    for (int h = 0; h < Lanes16<T>::H; ++h) {
      const index_t row = i + h * N, left = n - row;
      if (!Whole && left <= 0) break;
      const T* const x = X + row * d();
      const vec<T> r = residuals.template take<Whole>(dots<Whole>(x, left), i, h, at_most(N, left));
      asm("" ::: "memory");  // rows are read again: there are too many to stay in registers
      add<Whole>(x, r, left, acc);
    }
  }

  inline void finish(vec<T>* acc, T* grad) const {
    T sum[16];
    if constexpr (P < N) acc[0] = fold<T, P>(acc[0]);
#pragma GCC unroll 8
    for (int q = 0; q < parts; ++q) store(sum + q * N, P < N ? acc[q] : acc[q] + acc[q + parts]);
    for (index_t j = 0; j < d(); ++j) grad[j] = sum[j];
  }
};

template <class T, int D, bool Few = D <= 4>
struct FewFeaturesOf {
  typedef Columns<T, D> type;
};
template <class T, int D>
struct FewFeaturesOf<T, D, false> {
  typedef RowLanes<T, D> type;
};
template <class T, int D>
using FewFeatures = typename FewFeaturesOf<T, D>::type;

template <class T, int D>
void dot_few_features(index_t rows, index_t k, const T* X, const T* w, T* out) {
  const FewFeatures<T, D> model(w, k);
  index_t i = 0;
  for (; i + W<T> <= rows; i += W<T>)
    store(out + i, model.template dots<true>(X + i * model.d(), rows - i));
  if (i < rows)
    store_first(out + i, static_cast<int>(rows - i),
                model.template dots<false>(X + i * model.d(), rows - i));
}

template <class T, class Loss, class Model>
inline void add_segment(const Model& model, const LinearRows<T>& x, index_t first, T* partial) {
  const T* const X = x.X + first * x.d;
  const index_t n = at_most(L<T>, x.rows - first);
  Residuals<T, Loss> residuals(x, first);
  typename Model::Sum acc[Model::sums] = {};
  index_t i = 0;
  for (; i + 16 <= n; i += 16) {
    if (x.reading == Reading::ahead) prefetch_rows<T, Model::most>(X + i * model.d());
    model.template rows<true>(X, i, n, residuals, acc);
  }
  if (i < n) model.template rows<false>(X, i, n, residuals, acc);
  model.finish(acc, partial);
  residuals.finish(partial + x.d);
}

// Whole segments, `apart` rows from one to the next, 16 rows of each in turn: the prefetcher
// follows several places at once where it would follow one.
template <class T, class Loss, class Model>
void add_in_lockstep(const Model& model, const LinearRows<T>& x, index_t first, index_t apart,
                     T* partial, index_t stride) {
  struct Kept {
    typename Model::Sum acc[Model::sums] = {};
    Lanes16<T> losses = {}, sums = {};
  } kept[lockstep];
  for (index_t i = 0; i < L<T>; i += 16) {
    for (int s = 0; s < lockstep; ++s) {
      const index_t row = first + s * apart + i;
      const T* const X = x.X + row * x.d;
      Residuals<T, Loss> residuals(x, row);
      Kept now = kept[s];
      residuals.losses = now.losses, residuals.sums = now.sums;
      prefetch_rows<T, Model::most>(X);
      model.template rows<true>(X, 0, 16, residuals, now.acc);
      now.losses = residuals.losses, now.sums = residuals.sums;
      kept[s] = now;
    }
  }
  for (int s = 0; s < lockstep; ++s, partial += stride) {
    model.finish(kept[s].acc, partial);
    partial[x.d] = sum16(kept[s].sums);
    partial[x.d + 1] = sum16(kept[s].losses);
  }
}

// Segments of rows, the partial sums of each `stride` after the last one's.
template <class T, class Loss, int D>
void linear_few_features(const LinearRows<T>& x, T* partial, index_t stride) {
  const FewFeatures<T, D> model(x.weights, x.d);
  index_t c = 0;
  // For the squared error alone, which a fit reads every epoch: code of 10 to 30 KB each.
  if constexpr (is_squared_error<Loss>) {
    const index_t each = x.reading == Reading::in_turns ? x.rows / L<T> / lockstep : 0;
    for (; c < each; ++c)
      add_in_lockstep<T, Loss>(model, x, c * L<T>, each * L<T>, partial + c * stride,
                               each * stride);
    c = each * lockstep;
  }
  for (; c * L<T> < x.rows; ++c) add_segment<T, Loss>(model, x, c * L<T>, partial + c * stride);
}

// f(Int<D>) for the kernel made for d <= 16 features.
template <class F>
inline void few_features_of(index_t d, F&& f) {
  switch (d) {
    case 1: return f(Int<1>());
    case 2: return f(Int<2>());
    case 3: return f(Int<3>());
    case 4: return f(Int<4>());
    case 5: return f(Int<5>());
    case 6: return f(Int<6>());
    case 7: return f(Int<7>());
    case 8: return f(Int<8>());
    case 16: return f(Int<16>());
    default: return f(Int<nine_to_fifteen>());
  }
}

}  // namespace
