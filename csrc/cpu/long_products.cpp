#include "cpu/long_products.hpp"

#include "cpu/dispatch.hpp"
#include "cpu/parallel.hpp"
#include "cpu/scratch.hpp"

namespace gdcore::cpu {
namespace {

// Measured: with more, tiles are faster. Their panels of b are slow where its rows have gaps.
constexpr int64_t most_rows = 8;
constexpr int64_t most_packed_rows = 3;  // of an a whose terms are not neighbours
constexpr int64_t most_late = 4;         // so many blocks of neighbouring lanes differ
constexpr int64_t blocks_of_segment = L<float> / segment_block;
static_assert(L<float> == L<double> && L<float> % segment_block == 0);

// The fewer of c's rows and columns are columns here.
template <class T>
Product<T> standing(const Product<T>& p) {
  if (p.m >= p.n) return p;
  return {p.n,
          p.m,
          p.k,
          {p.b.data, p.b.cs, p.b.rs},
          {p.a.data, p.a.cs, p.a.rs},
          {p.c.data, p.c.cs, p.c.rs}};
}

template <class T>
int64_t packed_size(const Product<T>& p) {
  return segment_block * (p.n + std::min(p.m, most_packed_rows)) * isa<T>().lanes;
}

// What a thread packs, its sums, and the memory of its remaining terms.
template <class T>
int64_t memory_of_thread(const Product<T>& p) {
  return padded_to_page<T>(lines<T>(packed_size(p)) + p.m * p.n * isa<T>().lanes);
}

// Segments [begin, end), whole ones: partials (segment, m, n). Neighbouring lanes work on different
// blocks of their segments: segments are a multiple of 2 KiB apart, and lines that far apart evict
// each other. So lane s begins s % most_late blocks late.
template <class T>
class Lanes {
 public:
  Lanes(const Product<T>& p, int64_t begin, int64_t end, T* partials, T* memory)
      : p_(p),
        begin_(begin),
        end_(end),
        partials_(partials),
        packing_(memory),
        sums_(memory + lines<T>(packed_size(p))) {}

  void run() {
    std::fill_n(sums_, p_.m * p_.n * lanes_, T(0));
    for (int64_t s = 0; s < lanes_; ++s) block_[s] = -(s % most_late);
    for (int64_t left = end_ - begin_; left > 0;) {
      for (int64_t s = 0; s < lanes_; ++s) first_term_[s] = term_of(s);
      isa<T>().segment_products({p_.m,
                                 p_.n,
                                 first_term_,
                                 {p_.a.data, p_.a.rs, p_.a.cs},
                                 {p_.b.data, p_.b.cs, p_.b.rs},
                                 sums_,
                                 packing_});
      for (int64_t s = 0; s < lanes_; ++s) {
        if (++block_[s] % blocks_of_segment == 0) left -= take(s);
      }
    }
  }

 private:
  // Lane s goes through segments begin + s, begin + s + lanes, ...; block_ counts its blocks.
  int64_t segment_of(int64_t lane, int64_t block) const {
    return begin_ + lane + block / blocks_of_segment * lanes_;
  }
  // An idle lane reads what is there, and its sums are not taken.
  int64_t term_of(int64_t lane) const {
    const int64_t segment = segment_of(lane, block_[lane]);
    if (block_[lane] < 0 || segment >= end_) return begin_ * L<T>;
    return segment * L<T> + block_[lane] % blocks_of_segment * segment_block;
  }
  // The sums of the segment that a lane has finished, if it had one.
  int64_t take(int64_t lane) {
    const int64_t size = p_.m * p_.n, segment = segment_of(lane, block_[lane] - 1);
    const bool worked = block_[lane] > 0 && segment < end_;
    for (int64_t e = 0; e < size; ++e) {
      T& sum = sums_[e * lanes_ + lane];
      if (worked) partials_[segment * size + e] = sum;
      sum = T(0);
    }
    return worked ? 1 : 0;
  }

  const Product<T>& p_;
  const int64_t lanes_ = isa<T>().lanes;
  int64_t begin_, end_;
  T *partials_, *packing_, *sums_;
  int64_t first_term_[V], block_[V];
};

// The partials (segment, size) of k terms, added in the order of the contract; `spare` has `size`
// elements for each level of parts.
template <class T>
void add_partials(int64_t k, int64_t size, const T* partials, T* out, T* spare) {
  const int64_t part = k <= chain_terms<T> ? L<T> : part_of<T>(k);
  for (int64_t p = 0; p < k; p += part, partials += part / L<T> * size) {
    const T* sums = partials;
    if (part > L<T>) {
      add_partials(std::min(part, k - p), size, partials, spare, spare + size);
      sums = spare;
    }
    for (int64_t e = 0; e < size; ++e) out[e] = p == 0 ? sums[e] : out[e] + sums[e];
  }
}

}  // namespace

template <class T>
bool is_long(const Product<T>& given) {
  const Product<T> p = standing(given);
  const int64_t lanes = isa<T>().lanes;
  const bool reads_a = p.a.cs == 1 || p.a.cs == 2, packs_rows_of_b = p.b.cs == 1;
  return p.k >= lanes * L<T> &&
         p.n <= (packs_rows_of_b ? std::min(lanes / 4, most_lines) : most_lines) &&
         p.m <= (reads_a ? std::min(lanes, most_rows) : most_packed_rows);
}

template <class T>
int64_t long_product_size(const Product<T>& given, int threads) {
  const Product<T> p = standing(given);
  const int64_t sums = (ceil_div(p.k, L<T>) + 1 + levels_of_parts<T>(p.k)) * p.m * p.n;
  return padded_to_page<T>(sums) + threads * memory_of_thread(p) + packing_size<T>(p.m, p.n, L<T>);
}

template <class T>
void multiply_long(const Product<T>& given, Team threads, T* memory) {
  const Product<T> p = standing(given);
  const int64_t lanes = isa<T>().lanes, size = p.m * p.n;
  // Few last segments would leave most lanes idle.
  const int64_t segments = p.k / L<T>, rest = segments % lanes;
  const int64_t in_lanes = rest < lanes / 4 ? segments - rest : segments;
  T* const partials = memory;
  T* const sums = partials + ceil_div(p.k, L<T>) * size;
  T* const threads_memory = memory + long_product_size(given, threads) -
                            threads * memory_of_thread(p) - packing_size<T>(p.m, p.n, L<T>);
  parallel_for(ceil_div(in_lanes, lanes), threads, [&](int64_t begin, int64_t end, int thread) {
    Lanes<T>(p, begin * lanes, std::min(in_lanes, end * lanes), partials,
             threads_memory + thread * memory_of_thread(p))
        .run();
  });
  for (int64_t k = in_lanes * L<T>; k < p.k; k += L<T>)
    gemm<T>(p.m, p.n, std::min(L<T>, p.k - k), {p.a.data + k * p.a.cs, p.a.rs, p.a.cs},
            {p.b.data + k * p.b.rs, p.b.rs, p.b.cs}, {partials + k / L<T> * size, p.n, 1},
            threads_memory + threads * memory_of_thread(p));
  add_partials(p.k, size, partials, sums, sums + size);
  for (int64_t i = 0; i < p.m; ++i)
    for (int64_t j = 0; j < p.n; ++j) p.c.data[i * p.c.rs + j * p.c.cs] = sums[i * p.n + j];
}

#define GDCORE_INSTANTIATE(T)                                    \
  template bool is_long<T>(const Product<T>&);                   \
  template int64_t long_product_size<T>(const Product<T>&, int); \
  template void multiply_long<T>(const Product<T>&, Team, T*);
GDCORE_INSTANTIATE(float)
GDCORE_INSTANTIATE(double)

}  // namespace gdcore::cpu
