// Prints a digest of many results for the reference loops and for every instruction set this
// machine runs, no Python needed. Equal lines within a run prove the contract here; equal runs on
// two machines prove it between them.
#include <cstdio>
#include <cstring>

#include "cpu/dispatch.hpp"
#include "cpu/parallel.hpp"
#include "fit/descent.hpp"
#include "fp_env.hpp"

using namespace gdcore;

namespace {

uint64_t hash = 0;

template <class T>
void absorb(const T* data, size_t count) {  // FNV-1a
  const auto* bytes = reinterpret_cast<const unsigned char*>(data);
  for (size_t i = 0; i < count * sizeof(T); ++i) hash = (hash ^ bytes[i]) * 0x100000001B3u;
}

// Values of many magnitudes, from a counter.
template <class T>
std::vector<T> draw(int64_t count, uint32_t stream) {
  std::vector<T> out(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    const PhiloxWords words = philox({{static_cast<uint32_t>(i), stream, 0, 0}}, 2026, 0);
    const double unit = (words.at[0] + 0.5) * 0x1p-32 - 0.5;
    out[static_cast<size_t>(i)] =
        static_cast<T>(std::ldexp(unit, static_cast<int>(words.at[1] % 24) - 12));
  }
  return out;
}

template <class T>
void matmul(int64_t m, int64_t n, int64_t k) {
  const auto a = draw<T>(m * k + 1, 1), b = draw<T>(k * n + 1, 2);
  std::vector<T> c(static_cast<size_t>(m * n));
  host_device<T>().matmul(
      {m, n, k, {a.data(), k, 1}, {b.data(), 1, k}, {c.data(), n, 1}, {}, {}, {}, {}});
  absorb(c.data(), c.size());
}

template <class T>
void matmuls() {
  for (int64_t m : {1, 5, 15, 33})
    for (int64_t n : {1, 2, 17, 70})
      for (int64_t k : {int64_t{0}, int64_t{1}, int64_t{3}, int64_t{8}, int64_t{19}, L<T> + 5})
        matmul<T>(m, n, k);
  for (int64_t n : {1, 2}) matmul<T>(1, n, chain_terms<T> + L<T> + 5);
}

template <class T>
void errors() {
  for (int64_t n :
       {int64_t{1}, int64_t{15}, int64_t{17}, 3 * L<T> + 7, chain_terms<T> + L<T> + 7}) {
    const auto p = draw<T>(n, 3), q = draw<T>(n, 4);
    std::vector<T> gradient(static_cast<size_t>(n));
    T loss = 0;
    const Scale scale{1.0, 2.0 / 3.0};
    host_device<T>().mse({n,
                          {p.data(), {n}, {1}},
                          {q.data(), {n}, {1}},
                          MseOutput::gradient,
                          gradient.data(),
                          scale,
                          &loss});
    absorb(&loss, 1);
    absorb(gradient.data(), gradient.size());
  }
}

template <class T>
void fits() {
  for (int64_t d : {1, 2, 3, 5, 8, 9, 16, 17, 40})
    for (int64_t t : {1, 3})
      for (int64_t batch : {0, 48}) {
        const int64_t n = L<T> + 11;
        const auto X = draw<T>(n * d, 5), y = draw<T>(n * t, 6), s = draw<T>(n, 7);
        std::vector<T> weight(s);
        for (T& w : weight) w = std::fabs(w);
        const Problem<T> problem{n,
                                 d,
                                 t,
                                 {X.data(), d, 1},
                                 {y.data(), t, 1},
                                 {nullptr, 0, 0},
                                 {weight.data(), 1},
                                 true,
                                 Reduction::mean,
                                 nullptr,
                                 &host_device<T>()};
        DescentOptions options;
        options.sgd = {0.5, 0.0, 0.001, true, false};
        options.batch_size = batch;
        DescentState<T> state;
        state.params.assign(static_cast<size_t>(problem.size()), T(0));
        Descent<T> descent(problem, options, state, 3);
        descent.set_constant_lr(1e-3);
        while (descent.advance(1.0) == Outcome::running) {
        }
        absorb(descent.state().params.data(), descent.state().params.size());
        const T loss = descent.loss();
        absorb(&loss, 1);
      }
}

void print(const std::string& isa) {
  choose_isa(isa);
  hash = 0xCBF29CE484222325u;
  matmuls<float>();
  matmuls<double>();
  errors<float>();
  errors<double>();
  fits<float>();
  fits<double>();
  std::printf("%016llx %s\n", static_cast<unsigned long long>(hash), isa.c_str());
}

}  // namespace

int main() {
  print("reference");
  for (const std::string& isa : available_isas()) print(isa);
}
