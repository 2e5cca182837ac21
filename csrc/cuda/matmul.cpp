// Which route a product takes, the first that fits:
//
//   more than 6 batch dimensions  one product for each index of the first
//   n = 1                         matvec: lanes, by four threads or one thread a row
//   b shared by dense problems    their rows form one product
//   m, n, k <= 32                 matmul_small: several problems a block
//   any other                     tiles, see matmul_tiles
//
// A product by tiles is transposed where that makes it narrow (n <= 8) or its rows contiguous. Its
// k is cut into parts where the blocks would leave multiprocessors idle, each a segment of 512, and
// where k > 262144, whose partials have levels. No route, tile or cut changes a bit.
#include "cuda/matmul.hpp"

#include <algorithm>
#include <map>
#include <mutex>
#include <vector>

#include "cuda/batch.hpp"
#include "cuda/device_state.hpp"
#include "cuda/long_sums.hpp"
#include "cuda/operations.hpp"

namespace gdcore::cuda {

// The tiles of kernels/matmul.cu and kernels/matmul_mma.cu.
template <>
const std::initializer_list<MatmulTile>& matmul_tiles<float>() {
  static const std::initializer_list<MatmulTile> tiles = {
      {"matmul_packed_128x128_f32", "matmul_strided_128x128_f32", 128, 128, 16, 256, 1, 1.9, false},
      {"matmul_packed_64x64_f32", "matmul_strided_64x64_f32", 64, 64, 16, 128, 4, 1.5, false},
      {"matmul_packed_32x32_f32", "matmul_strided_32x32_f32", 32, 32, 16, 64, 8, 1.0, false},
      {"matmul_packed_128x8_f32", "matmul_strided_128x8_f32", 128, 8, 16, 128, 5, 0.8, false},
  };
  return tiles;
}
template <>
const std::initializer_list<MatmulTile>& matmul_tiles<double>() {
  static const std::initializer_list<MatmulTile> tiles = {
      {"matmul_mma_packed_128x128_f64", "matmul_mma_strided_128x128_f64", 128, 128, 8, 256, 1, 1.9,
       true},
      {"matmul_mma_packed_64x64_f64", "matmul_mma_strided_64x64_f64", 64, 64, 16, 128, 2, 1.5,
       true},
      {"matmul_packed_64x128_f64", "matmul_strided_64x128_f64", 64, 128, 8, 256, 1, 0.95, false},
      {"matmul_packed_32x32_f64", "matmul_strided_32x32_f64", 32, 32, 8, 64, 6, 0.7, false},
      {"matmul_packed_128x8_f64", "matmul_strided_128x8_f64", 128, 8, 8, 128, 4, 0.5, false},
  };
  return tiles;
}

namespace {

template <class T>
constexpr int64_t pack = 16 / static_cast<int64_t>(sizeof(T));

// c^T = b^T a^T: an element's chain is the same.
template <class T>
MatmulArgs<T> transposed(const MatmulArgs<T>& x) {
  return {x.n,
          x.m,
          x.k,
          {x.b.data, x.b.cs, x.b.rs},
          {x.a.data, x.a.cs, x.a.rs},
          {x.c.data, x.c.cs, x.c.rs},
          x.batch,
          x.b_batch,
          x.a_batch,
          x.c_batch};
}

template <class T>
Result<T> result_of(const MatmulArgs<T>& x) {
  return {x.c.data, x.c.rs, x.c.cs};
}

int64_t distance(int64_t stride) { return stride < 0 ? -stride : stride; }

// A problem of the batch, its dimensions merged.
template <class T>
struct Batched {
  MatmulArgs<T> problem;
  BatchDims dims;
};

template <class T>
Batched<T> batched(const MatmulArgs<T>& args, const Merged<3>& merged) {
  return {args, batch_dims(merged)};
}

// Where dense problems share b, their rows form one product.
template <class T>
void join_rows(Batched<T>& x) {
  BatchDims& dims = x.dims;
  if (dims.count != 1 || dims.b[0] != 0) return;
  if (x.problem.m == 1) x.problem.a.rs = dims.a[0], x.problem.c.rs = dims.c[0];
  if (dims.a[0] != x.problem.m * x.problem.a.rs || dims.c[0] != x.problem.m * x.problem.c.rs)
    return;
  x.problem.m *= dims.problems;
  dims.count = 0;
  dims.problems = 1;
}

template <class T>
void swap_operands(Batched<T>& x) {
  x.problem = transposed(x.problem);
  for (int dim = 0; dim < x.dims.count; ++dim) std::swap(x.dims.a[dim], x.dims.b[dim]);
}

// --- one column

template <class T>
void matvec(const Batched<T>& x, const MatmulChoice& choice) {
  const MatmulArgs<T>& args = x.problem;
  const int64_t rows = x.dims.problems * args.m;
  const int64_t segments = std::max<int64_t>(ceil_div(args.k, L<T>), 1);
  const Memory partials(segments == 1 ? 0 : static_cast<size_t>(segments * rows) * sizeof(T));
  MatvecParams<T> p{};
  p.m = args.m;
  p.k = args.k;
  p.a = args.a.data;
  p.a_rs = args.a.rs;
  p.a_cs = args.a.cs;
  p.x = args.b.data;
  p.x_stride = args.b.rs;
  p.c = args.c.data;
  p.c_rs = args.c.rs;
  p.batch = x.dims;
  p.lanes = static_cast<int>(lanes_of(args.k));
  p.segments = segments;
  p.partials = partials.as<T>();

  constexpr int threads = 128, quad = 4;
  constexpr int64_t short_row = 32;  // terms
  if (args.k <= short_row || distance(args.a.rs) < distance(args.a.cs))
    launch_all(kernel_of<T>("matvec_by_rows").c_str(), ceil_div(segments * rows, threads), threads,
               0, p, choice.most_blocks);
  else
    launch_all(kernel_of<T>("matvec_by_quads").c_str(), ceil_div(segments * rows * quad, threads),
               threads, 0, p, choice.most_blocks);
  if (segments == 1) return;
  add_levels(static_cast<const T*>(p.partials), segments, rows, 0,
             [&](const T* last, int64_t count, size_t level) {
               add_pieces<T>({last, count, rows, 0, nullptr, args.m, 1, result_of(args), x.dims, 0},
                             level);
             });
}

// --- many small products

constexpr int64_t small = 32;

uint32_t reciprocal(int64_t d) {
  return static_cast<uint32_t>(0xffffffffu / static_cast<uint64_t>(std::max<int64_t>(d, 1)));
}

// Bytes of a matrix of matmul_small's stage.
template <class T>
int64_t stage_bytes(int64_t rows, int64_t columns) {
  return ((rows * (columns | 1)) | 1) * static_cast<int64_t>(sizeof(T));
}

template <class T>
void multiply_small(const Batched<T>& x, const MatmulChoice& choice) {
  const MatmulArgs<T>& args = x.problem;
  const BatchDims& dims = x.dims;
  SmallMatmulParams<T> p{};
  p.m = static_cast<int>(args.m);
  p.n = static_cast<int>(args.n);
  p.k = static_cast<int>(args.k);
  p.a = {args.a.data, args.a.rs, args.a.cs, true};
  p.b = {args.b.data, args.b.cs, args.b.rs, false};
  p.c = result_of(args);
  p.batch = dims;
  const auto is_dense = [&](int64_t rs, int64_t cs, int64_t rows, int64_t columns,
                            const int64_t* steps) {
    return cs == 1 && rs == columns &&
           (dims.count == 0 || (dims.count == 1 && steps[0] == rows * columns));
  };
  p.a_dense = is_dense(args.a.rs, args.a.cs, args.m, args.k, dims.a);
  p.c_dense = is_dense(args.c.rs, args.c.cs, args.m, args.n, dims.c);
  p.one_b = std::all_of(dims.b, dims.b + dims.count, [](int64_t step) { return step == 0; });
  p.b_dense = p.one_b ? args.b.cs == 1 && args.b.rs == args.n
                      : is_dense(args.b.rs, args.b.cs, args.k, args.n, dims.b);

  // As many problems as fill a block's threads and 32 KB, but not so many that blocks are missing.
  constexpr int threads = 128;
  constexpr int64_t room = 32 << 10, most_problems = 1024;
  const int64_t tiles_n = ceil_div(args.n, 4), tiles = ceil_div(args.m, 4) * tiles_n;
  const int64_t offsets = 3 * static_cast<int64_t>(sizeof(int64_t));
  const int64_t b_bytes = stage_bytes<T>(args.k, args.n);
  const int64_t bytes = stage_bytes<T>(args.m, args.k) + stage_bytes<T>(args.m, args.n) +
                        (p.one_b ? 0 : b_bytes) + offsets;
  const int64_t step = std::max<int64_t>(threads / tiles, 1);
  const int64_t blocks = 2 * properties(current().ordinal).multiprocessors;
  int64_t group = std::max<int64_t>(room / bytes / step * step, 1);
  group = std::min({group, most_problems, ceil_div(ceil_div(dims.problems, blocks), 4) * 4});
  p.group = static_cast<int>(group);
  p.by_a = reciprocal(args.m * args.k);
  p.by_a_row = reciprocal(args.k);
  p.by_b = reciprocal(args.k * args.n);
  p.by_b_row = reciprocal(args.n);
  p.by_c = reciprocal(args.m * args.n);
  p.by_c_row = reciprocal(args.n);
  p.by_tiles = reciprocal(tiles);
  p.by_tiles_n = reciprocal(tiles_n);
  launch_all(kernel_of<T>("matmul_small").c_str(), ceil_div(dims.problems, group), threads,
             static_cast<size_t>(group * bytes + (p.one_b ? b_bytes : 0)), p, choice.most_blocks);
}

// --- tiles

template <class T>
Operand<T> operand(const T* data, int64_t stride, int64_t k_stride) {
  return {data, stride, k_stride,
          k_stride == 1 || (stride != 1 && distance(k_stride) <= distance(stride))};
}

// Whether packs of 16 bytes lie at multiples of 16 bytes and end where rows and terms do.
template <class T>
bool in_packs(const Operand<T>& x, int64_t span, int64_t k, const BatchDims& dims,
              const int64_t* steps) {
  const int64_t across = x.along_k ? x.stride : x.k_stride;
  bool all = (x.along_k ? x.k_stride : x.stride) == 1 && across % pack<T> == 0 &&
             (x.along_k ? k : span) % pack<T> == 0 && reinterpret_cast<uintptr_t>(x.data) % 16 == 0;
  for (int dim = 0; dim < dims.count; ++dim) all = all && steps[dim] % pack<T> == 0;
  return all;
}

// Which tile computes a product, and the terms of a part of its k.
struct Plan {
  const MatmulTile* tile;
  int64_t part, parts;
};

// Two tiles of each operand, and the sums of earlier segments where there are some.
template <class T>
size_t shared_bytes(const MatmulTile& tile, int64_t k, int64_t part) {
  const int buffers = 2 * tile.bk * (tile.bm + 4 + tile.bn + 4);
  const int totals = k > L<T> && part > L<T> ? tile.bm * tile.bn : 0;
  return static_cast<size_t>(buffers + totals) * sizeof(T);
}

// The time of a product, up to a factor: multiprocessors take their share of the blocks, at full
// speed if they hold enough warps.
template <class T>
double cost(const Batched<T>& x, const Plan& plan, const Properties& device) {
  const auto number = [](int64_t value) { return static_cast<double>(value); };
  const MatmulTile& tile = *plan.tile;
  const double blocks = number(ceil_div(x.problem.m, tile.bm)) *
                        number(ceil_div(x.problem.n, tile.bn)) * number(x.dims.problems) *
                        number(plan.parts);
  const double each = std::ceil(blocks / device.multiprocessors);
  constexpr double busy_warps = 8, overhead_terms = 32;
  const double warps = std::min(each, number(tile.resident)) * tile.threads / 32;
  const double speed = tile.speed * std::min(1.0, warps / busy_warps);
  const double terms = number(std::min(plan.part, x.problem.k)) + overhead_terms;
  return each * tile.bm * tile.bn * terms / speed;
}

template <class T>
Plan best_plan(const Batched<T>& x, int64_t part, int forced_tile, const Properties& device) {
  const int64_t k = x.problem.k, parts = std::max<int64_t>(ceil_div(k, part), 1);
  if (forced_tile >= 0) return {matmul_tiles<T>().begin() + forced_tile, part, parts};
  Plan best{nullptr, part, parts};
  double least = 0;
  for (const MatmulTile& tile : matmul_tiles<T>()) {
    if (shared_bytes<T>(tile, k, part) > device.shared_bytes ||
        (tile.tensor_cores && !tensor_cores_follow_chain()))
      continue;
    const double time = cost(x, {&tile, part, parts}, device);
    if (!best.tile || time < least) best.tile = &tile, least = time;
  }
  return best;
}

// Parts of one segment where that is much faster and their sums take little memory.
template <class T>
Plan plan_of(const Batched<T>& x, const MatmulChoice& choice) {
  const Properties& device = properties(current().ordinal);
  const auto best = [&](int64_t part) { return best_plan(x, part, choice.tile, device); };
  if (choice.part > 0) return best(choice.part);
  const Plan whole = best(chain_terms<T>), cut = best(L<T>);
  constexpr double most_bytes = 64 << 20;
  const double bytes = static_cast<double>(x.problem.m) * static_cast<double>(x.problem.n) *
                       static_cast<double>(x.dims.problems) * static_cast<double>(cut.parts) *
                       sizeof(T);
  const bool cuts =
      cut.parts > 2 && bytes <= most_bytes && 2 * cost(x, cut, device) < cost(x, whole, device);
  return cuts ? cut : whole;
}

template <class T>
MatmulParams<T> tile_params(const Batched<T>& x, const Plan& plan, T* partials) {
  const MatmulArgs<T>& args = x.problem;
  const BatchDims& dims = x.dims;
  const bool c_in_packs =
      args.c.cs == 1 && args.c.rs % pack<T> == 0 &&
      reinterpret_cast<uintptr_t>(args.c.data) % 16 == 0 &&
      std::all_of(dims.c, dims.c + dims.count, [](int64_t step) { return step % pack<T> == 0; });
  return {args.m,
          args.n,
          args.k,
          operand(args.a.data, args.a.rs, args.a.cs),
          operand(args.b.data, args.b.cs, args.b.rs),
          result_of(args),
          c_in_packs,
          dims,
          plan.part,
          plan.parts,
          partials,
          ceil_div(args.m, plan.tile->bm),
          ceil_div(args.n, plan.tile->bn),
          0};
}

template <class T>
void multiply_tiles(Batched<T> x, const MatmulChoice& choice) {
  constexpr int64_t narrow = 8;
  const bool by_columns = x.problem.c.cs != 1 && x.problem.c.rs == 1;
  if (x.problem.m <= narrow ? x.problem.n > x.problem.m : x.problem.n > narrow && by_columns)
    swap_operands(x);
  const MatmulArgs<T>& args = x.problem;
  const BatchDims& dims = x.dims;
  const Plan plan = plan_of(x, choice);
  const MatmulTile& tile = *plan.tile;
  const int64_t elements = dims.problems * args.m * args.n;
  const Memory partials(plan.parts == 1 ? 0
                                        : static_cast<size_t>(plan.parts * elements) * sizeof(T));
  const MatmulParams<T> p = tile_params(x, plan, partials.as<T>());
  const bool packed = !choice.strided && in_packs(p.a, args.m, args.k, dims, dims.a) &&
                      in_packs(p.b, args.n, args.k, dims, dims.b);
  launch_all(packed ? tile.packed : tile.strided,
             p.tiles_m * p.tiles_n * dims.problems * plan.parts, tile.threads,
             shared_bytes<T>(tile, args.k, plan.part), p, choice.most_blocks);
  if (plan.parts == 1) return;
  add_levels(static_cast<const T*>(p.partials), plan.parts, elements, plan.part == L<T> ? 0 : 1,
             [&](const T* last, int64_t count, size_t level) {
               add_pieces<T>({last, count, elements, 0, nullptr, args.m, args.n, p.c, dims, 0},
                             level);
             });
}

// One product for each index of the first dimension.
template <class T>
void loop_over_first(MatmulArgs<T> args, const Merged<3>& batch, const MatmulChoice& choice) {
  const auto rest = [](const Dims& dims) { return Dims(dims.begin() + 1, dims.end()); };
  args.batch = rest(batch.shape);
  args.a_batch = rest(batch.strides[0]);
  args.b_batch = rest(batch.strides[1]);
  args.c_batch = rest(batch.strides[2]);
  for (int64_t i = 0; i < batch.shape[0]; ++i) {
    matmul(args, choice);
    args.a.data += batch.strides[0][0];
    args.b.data += batch.strides[1][0];
    args.c.data += batch.strides[2][0];
  }
}

}  // namespace

bool test_tensor_cores() {
  constexpr int blocks = 256, warps = 4;
  if (properties(current().ordinal).sm < 80) return false;
  const Memory differs(blocks * warps * sizeof(uint32_t));
  struct {
    uint32_t* differs;
  } const p{differs.as<uint32_t>()};
  launch("mma_differs_f64", blocks, 32 * warps, 0, p);
  std::vector<uint32_t> found(blocks * warps);
  copy_to_host(found.data(), p.differs, found.size() * sizeof(uint32_t));
  synchronize();
  return std::all_of(found.begin(), found.end(), [](uint32_t x) { return x == 0; });
}

bool tensor_cores_follow_chain() {
  static std::mutex mutex;
  static std::map<int, bool> tested;
  const int ordinal = current().ordinal;
  const std::lock_guard lock(mutex);
  const auto found = tested.find(ordinal);
  if (found != tested.end()) return found->second;
  const Uncaptured uncaptured;
  const Scope own_stream(home_of(ordinal));  // the caller's is not waited for, nor captured
  return tested[ordinal] = test_tensor_cores();
}

template <class T>
void matmul(const MatmulArgs<T>& args, const MatmulChoice& choice) {
  const Merged<3> merged = merged_batch(args);
  if (merged.elements == 0 || args.m == 0 || args.n == 0) return;
  if (merged.shape.size() > static_cast<size_t>(BatchDims::most))
    return loop_over_first(args, merged, choice);
  Batched<T> x = batched(args, merged);
  if (args.n == 1) return matvec(x, choice);
  if (choice.route == MatmulRoute::any) join_rows(x);
  const bool is_small = x.problem.m <= small && x.problem.n <= small && x.problem.k <= small;
  if (is_small && choice.route != MatmulRoute::tiles) return multiply_small(x, choice);
  multiply_tiles(x, choice);
}

template <class T>
void matmul(const MatmulArgs<T>& args) {
  matmul(args, {});
}

#define GDCORE_INSTANTIATE(T)                                      \
  template void matmul(const MatmulArgs<T>&, const MatmulChoice&); \
  template void matmul(const MatmulArgs<T>&);
GDCORE_INSTANTIATE(float)
GDCORE_INSTANTIATE(double)

}  // namespace gdcore::cuda
