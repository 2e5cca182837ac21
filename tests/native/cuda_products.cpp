#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <limits>

#include "cuda/long_sums.hpp"
#include "cuda/matmul.hpp"
#include "cuda_operations.hpp"

namespace gdcore::check {
namespace {

// Some infinities, NaNs, zeros of both signs, subnormal and large numbers.
template <class T>
void put_specials(std::vector<T>& x) {
  using Limits = std::numeric_limits<T>;
  const T specials[] = {Limits::infinity(),  T(-0.0), Limits::denorm_min(),
                        Limits::quiet_NaN(), T(0),    Limits::max(),
                        -Limits::infinity()};
  const size_t step = x.size() / 9 + 1;
  for (size_t i = step / 2, next = 0; i < x.size(); i += step) x[i] = specials[next++ % 7];
}

enum class Order { rows, columns, reversed, same_row, same_column };

// A matrix in a buffer that has `pad` numbers between its rows or columns.
template <class T>
struct Placed {
  int64_t first, rs, cs, size;

  Placed(int64_t rows, int64_t columns, Order order, int64_t pad) : first(0) {
    if (order == Order::columns || order == Order::same_column) {
      rs = 1;
      cs = order == Order::columns ? rows + pad : 0;
    } else {
      rs = order == Order::same_row ? 0 : columns + pad;
      cs = 1;
    }
    size = (rows + pad) * (columns + pad);
    if (order == Order::reversed) {
      first = size - 1;
      rs = -rs;
      cs = -cs;
    }
    size = std::max<int64_t>(size, 1);
  }
};

struct Batch {
  Dims shape;
  std::vector<bool> a, b;  // has the dimension; else it is broadcast
};

struct Shape {
  int64_t m, n, k;
  Order a = Order::rows, b = Order::rows, c = Order::rows;
  int64_t pad = 0;
  bool special = false;
  int64_t shift = 0;      // of all arrays: numbers before the first
  bool vanishes = false;  // every product is rounded to -0
};

// One product under every choice that is asked for.
template <class T>
class Product {
  Shape shape_;
  MatmulArgs<T> args_;
  std::vector<T> a_, b_, c_, expected_;
  int64_t a_first_, b_first_, c_first_;

 public:
  explicit Product(const Shape& s, const Batch& batch = {}) : shape_(s) {
    const Placed<T> a(s.m, s.k, s.a, s.pad), b(s.k, s.n, s.b, s.pad), c(s.m, s.n, s.c, s.pad);
    args_ = {s.m, s.n, s.k, {nullptr, a.rs, a.cs}, {nullptr, b.rs, b.cs}, {nullptr, c.rs, c.cs}, {},
             {},  {},  {}};
    args_.batch = args_.a_batch = args_.b_batch = args_.c_batch = batch.shape;
    int64_t a_size = a.size, b_size = b.size, c_size = c.size;
    for (size_t dim = batch.shape.size(); dim-- > 0;) {
      args_.a_batch[dim] = batch.a[dim] ? a_size : 0;
      args_.b_batch[dim] = batch.b[dim] ? b_size : 0;
      args_.c_batch[dim] = c_size;
      if (batch.a[dim]) a_size *= batch.shape[dim];
      if (batch.b[dim]) b_size *= batch.shape[dim];
      c_size *= batch.shape[dim];
    }
    a_ = draw<T>(a_size + s.shift, 1);
    b_ = draw<T>(b_size + s.shift, 2);
    if (s.vanishes) {
      a_.assign(a_.size(), std::numeric_limits<T>::denorm_min());
      b_.assign(b_.size(), -std::numeric_limits<T>::denorm_min());
    }
    if (s.special) {
      put_specials(a_);
      put_specials(b_);
    }
    c_.assign(static_cast<size_t>(std::max<int64_t>(c_size, 0) + s.shift), T(7));
    a_first_ = a.first + s.shift;
    b_first_ = b.first + s.shift;
    c_first_ = c.first + s.shift;
    expected_ = c_;
    reference_device<T>().matmul(at(a_.data(), b_.data(), expected_.data()));
  }

  void check(const cuda::MatmulChoice& choice = {}) const {
    if (is_skipped(61)) return;
    const OnDevice<T> a(a_), b(b_), c(c_);
    cuda::matmul(at(a.data(), b.data(), c.data()), choice);
    expect(same(c.host(), expected_),
           "matmul %s %lld x %lld x %lld, orders %d %d %d, pad %lld, tile %d, strided %d, part "
           "%lld, batch dimensions %zu",
           sizeof(T) == 4 ? "f32" : "f64", static_cast<long long>(shape_.m),
           static_cast<long long>(shape_.k), static_cast<long long>(shape_.n),
           static_cast<int>(shape_.a), static_cast<int>(shape_.b), static_cast<int>(shape_.c),
           static_cast<long long>(shape_.pad), choice.tile, choice.strided,
           static_cast<long long>(choice.part), args_.batch.size());
  }

 private:
  MatmulArgs<T> at(T* a, T* b, T* c) const {
    MatmulArgs<T> args = args_;
    args.a.data = a + a_first_;
    args.b.data = b + b_first_;
    args.c.data = c + c_first_;
    return args;
  }
};

cuda::MatmulChoice with_tile(int tile, bool strided, int64_t part = 0) {
  cuda::MatmulChoice choice;
  choice.route = cuda::MatmulRoute::tiles;
  choice.tile = tile;
  choice.strided = strided;
  choice.part = part;
  return choice;
}

// Every tile and both loaders, around the tile's edges.
template <class T>
void every_tile() {
  const auto& tiles = cuda::matmul_tiles<T>();
  const OnDevice<T> here({T(0)});
  const auto each = [&](const Product<T>& product, int tile, int64_t part = 0) {
    product.check(with_tile(tile, true, part));
    product.check(with_tile(tile, false, part));
  };
  for (int i = 0; i < static_cast<int>(tiles.size()); ++i) {
    const cuda::MatmulTile& tile = tiles.begin()[i];
    if (tile.tensor_cores && !cuda::tensor_cores_follow_chain()) continue;
    const int64_t bm = tile.bm, bn = tile.bn, bk = tile.bk;
    for (const int64_t k : {int64_t{0}, int64_t{1}, int64_t{3}, int64_t{4}, bk - 1, bk, bk + 4})
      for (const bool special : {false, true}) {
        each(Product<T>({bm + 4, bn + 4, k, Order::rows, Order::rows, Order::rows, 0, special}), i);
        each(Product<T>({bm - 1, bn - 1, k, Order::rows, Order::rows, Order::rows, 1, special}), i);
      }
    for (const Order a : {Order::rows, Order::columns, Order::reversed})
      for (const Order b : {Order::rows, Order::columns, Order::same_row})
        for (const Order c : {Order::rows, Order::columns}) {
          each(Product<T>({bm, bn + 8, 2 * bk + 4, a, b, c, 4, true}), i);
          each(Product<T>({bm + 3, bn - 1, bk + 3, a, b, c, 0, false}), i);
        }
    each(Product<T>({8, 12, 16, Order::rows, Order::rows, Order::rows, 0, false, 1}), i);
    for (const int64_t k : {511, 512, 513, 1024, 1036}) {
      const Product<T> product(
          {9, 12, k, Order::rows, Order::rows, Order::rows, 0, k == 1036, k == 513});
      each(product, i);
      each(product, i, L<T>);
    }
  }
}

template <class T>
void long_chains() {
  const int last = static_cast<int>(cuda::matmul_tiles<T>().size()) - 1;
  // Partials have a level above, in parts of whole pieces and of segments.
  const Product<T> pieces({2, 3, chain_terms<T> + 511, Order::rows, Order::columns});
  pieces.check();
  pieces.check(with_tile(last - 1, true, chain_terms<T>));
  const Product<T> segments({2, 3, 2 * chain_terms<T> + 1});
  segments.check(with_tile(last, false, L<T>));
  for (const int64_t k : {chain_terms<T> - 1, chain_terms<T>, chain_terms<T> + 511}) {
    Product<T>({2, 1, k}).check();
    Product<T>({3, 1, k, Order::columns}).check();
  }
  // So many elements that a thread adds each one's partials.
  Product<T>({70, 66, 1100}).check(with_tile(last - 1, true, L<T>));
  Product<T>({5000, 1, 1100, Order::same_row}).check();
}

template <class T>
void any_shape() {
  const int64_t sizes[] = {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 65};
  int next = 0;
  for (const int64_t m : sizes)
    for (const int64_t n : sizes) {
      const int64_t k = sizes[static_cast<size_t>(++next) % 14];
      const auto a = static_cast<Order>(next % 5), b = static_cast<Order>(next / 5 % 5);
      const auto c = static_cast<Order>(next % 3);
      Product<T>({m, n, k, a, b, c, next % 4, next % 2 == 0}).check();
    }
  for (const int64_t m : {127, 129, 255, 257})
    for (const int64_t n : {1, 2, 8, 130}) {
      Product<T>({m, n, 37}).check();
      Product<T>({n, m, 37, Order::rows, Order::columns}).check();
    }
  for (const int64_t k :
       {0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 255, 511, 512, 513, 1023, 1024, 1025})
    for (const bool special : {false, true})
      for (const Order a : {Order::rows, Order::columns, Order::reversed})
        for (const int64_t m : {1, 5, 33}) {
          Product<T>({m, 1, k, a, Order::rows, Order::rows, m == 5, special}).check();
          if (m < 33) Product<T>({m, 3, k, a, Order::rows, Order::rows, m == 5, special}).check();
        }
  for (const int64_t k : {1, 2, 3, 4, 5, 8, 9, 16, 33})
    for (const int64_t n : {1, 2, 33})
      Product<T>({3, n, k, Order::rows, Order::rows, Order::rows, 0, false, 0, true}).check();
  Product<T>({0, 3, 4}).check();
  Product<T>({3, 0, 4}).check();
  Product<T>({0, 1, 600}).check();
}

template <class T>
void batches() {
  const std::vector<Batch> all = {
      {{5}, {true}, {true}},
      {{1}, {true}, {true}},
      {{7}, {true}, {false}},  // b is shared
      {{7}, {false}, {true}},
      {{0}, {true}, {true}},
      {{3, 4}, {true, false}, {false, true}},
      {{2, 3, 2}, {true, false, true}, {true, true, false}},
      {{2, 2, 2, 2, 2, 2, 2}, {1, 0, 1, 0, 1, 0, 1}, {0, 1, 0, 1, 0, 1, 0}},
      {{2, 1, 2, 3, 1, 2, 2, 2, 2}, {1, 0, 1, 0, 1, 1, 0, 1, 0}, {0, 1, 1, 1, 1, 0, 1, 0, 1}},
  };
  const Shape shapes[] = {
      {4, 4, 4},
      {1, 2, 3},
      {3, 1, 5},
      {5, 1, 40},
      {33, 2, 9},
      {4, 36, 520},
      {2, 1, 520},
      {8, 8, 8, Order::columns, Order::columns},
      {3, 5, 2, Order::reversed, Order::rows, Order::columns, 1},
      {1, 6, 0},
      {3, 5, 2, Order::rows, Order::rows, Order::columns},
      {31, 32, 17},
      {36, 36, 12, Order::rows, Order::columns},
  };
  for (const Batch& batch : all)
    for (const Shape& shape : shapes) {
      const Product<T> product(shape, batch);
      product.check();
      cuda::MatmulChoice choice;
      choice.route = cuda::MatmulRoute::small;  // rows of problems are not joined
      choice.most_blocks = 2;
      product.check(choice);
      choice.route = cuda::MatmulRoute::tiles;
      choice.tile = static_cast<int>(cuda::matmul_tiles<T>().size()) - 2;
      choice.part = L<T>;
      product.check(choice);
    }
  // More problems than a block takes, and many small ones.
  for (const int64_t size : {1, 2, 3, 4, 5, 8, 16})
    for (const int64_t shift : {0, 1})
      for (const bool shared : {false, true}) {
        Batch batch{{2000 / size}, {true}, {!shared}};
        Shape shape{size, std::max<int64_t>(size, 2), size};
        shape.shift = shift;
        cuda::MatmulChoice choice;
        choice.route = cuda::MatmulRoute::small;
        Product<T>(shape, batch).check(choice);
      }
}

// Calls a function of the emulated driver.
void set_emulation(const char* name, long long value) {
  void* const library = dlopen(std::getenv("GDCORE_CUDA_DRIVER"), RTLD_NOW);
  reinterpret_cast<int (*)(const char*, long long)>(dlsym(library, "emulation_set"))(name, value);
}

// Two runs of numbers that are more than 2^31 numbers apart. What lies between is never touched.
constexpr int64_t far = (int64_t{1} << 31) + 24;
struct FarApart {
  int64_t each;
  cuda::Memory memory;

  explicit FarApart(const std::vector<float>& from)
      : each(static_cast<int64_t>(from.size()) / 2),
        memory(static_cast<size_t>(far + each) * sizeof(float)) {
    for (const int64_t half : {0, 1})
      cuda::copy_to_device(data() + half * far, from.data() + half * each,
                           static_cast<size_t>(each) * sizeof(float));
    cuda::synchronize();
  }
  float* data() const { return memory.as<float>(); }
  std::vector<float> host() const {
    std::vector<float> to(static_cast<size_t>(2 * each));
    for (const int64_t half : {0, 1})
      cuda::copy_to_host(to.data() + half * each, data() + half * far,
                         static_cast<size_t>(each) * sizeof(float));
    cuda::synchronize();
    return to;
  }
};

// Row 1 of every matrix, or problem 1 of every batch, is far from the first.
void far_strides() {
  set_emulation("memory", int64_t{1} << 40);
  for (const int64_t n : {1, 2, 40})
    for (const bool batched : {false, true}) {
      const int64_t m = 2, k = batched ? 40 : 2, problems = batched ? 2 : 1;
      const auto a = draw<float>(problems * m * k, 3), b = draw<float>(problems * k * n, 4);
      std::vector<float> expected(static_cast<size_t>(problems * m * n)), c(expected.size());
      const auto args = [&](const float* x, const float* y, float* z, bool apart) {
        const auto step = [&](int64_t dense) { return apart ? far : dense; };
        if (batched)
          return MatmulArgs<float>{m,
                                   n,
                                   k,
                                   {x, k, 1},
                                   {y, n, 1},
                                   {z, n, 1},
                                   {2},
                                   {step(m * k)},
                                   {step(k * n)},
                                   {step(m * n)}};
        return MatmulArgs<float>{m,  n,  k, {x, step(k), 1}, {y, step(n), 1}, {z, step(n), 1}, {},
                                 {}, {}, {}};
      };
      reference_device<float>().matmul(args(a.data(), b.data(), expected.data(), false));
      const FarApart far_a(a), far_b(b);
      for (const auto route : {cuda::MatmulRoute::any, cuda::MatmulRoute::tiles}) {
        const FarApart far_c(c);
        cuda::MatmulChoice choice;
        choice.route = route;
        cuda::matmul(args(far_a.data(), far_b.data(), far_c.data(), true), choice);
        expect(same(far_c.host(), expected), "far strides: %lld columns, batched %d, route %d",
               static_cast<long long>(n), batched, static_cast<int>(route));
      }
    }
  const auto pred = draw<float>(40, 5), target = draw<float>(40, 6);
  const FarApart far_pred(pred), far_target(target);
  std::vector<float> loss(1), expected(1);
  const auto args = [&](const float* x, const float* y, float* to, int64_t step) {
    return MseArgs<float>{
        40, {x, {2, 20}, {step, 1}}, {y, {2, 20}, {step, 1}}, MseOutput::none, nullptr, {40, 0},
        to};
  };
  reference_device<float>().mse(args(pred.data(), target.data(), expected.data(), 20));
  const OnDevice<float> on_loss(loss);
  cuda::mse(args(far_pred.data(), far_target.data(), on_loss.data(), far));
  expect(same(on_loss.host(), expected), "mse with far strides");
}

// Pieces of partials, also of the highest level, which has no end and which no product that fits a
// test reaches.
template <class T>
void pieces_of(size_t level) {
  constexpr int64_t count = 1300;
  const int64_t piece = level + 1 < sum_levels ? fan_in : count, pieces = ceil_div(count, piece);
  for (const int64_t width : {1, 3, 4100}) {
    const auto partials = draw<T>(count * width, 10);
    const auto at = [&](int64_t i, int64_t e) {
      return partials[static_cast<size_t>(i * width + e)];
    };
    std::vector<T> expected;
    for (int64_t first = 0; first < count; first += piece)
      for (int64_t e = 0; e < width; ++e) {
        T sum = at(first, e);
        for (int64_t i = first + 1; i < std::min(count, first + piece); ++i) sum += at(i, e);
        expected.push_back(sum);
      }
    const OnDevice<T> from(partials), to(std::vector<T>(static_cast<size_t>(pieces * width)));
    cuda::PartialsParams<T> p{};
    p.partials = from.data();
    p.count = count;
    p.width = width;
    p.sums = to.data();
    cuda::add_pieces(p, level);
    expect(same(to.host(), expected), "level %zu of %lld sums", level,
           static_cast<long long>(width));
  }
}

template <class T>
void mse_case(int64_t size, const Dims& shape, const Dims& pred, const Dims& target, int64_t room,
              int64_t first, bool special) {
  if (is_skipped(61)) return;
  auto x = draw<T>(room, 5), y = draw<T>(room, 6);
  if (special) {
    put_specials(x);
    put_specials(y);
  }
  const OnDevice<T> on_x(x), on_y(y);
  for (const MseOutput output : {MseOutput::none, MseOutput::gradient, MseOutput::squares})
    for (const bool with_loss : {true, false}) {
      std::vector<T> out(output == MseOutput::none ? 1 : static_cast<size_t>(size + 1), T(7));
      std::vector<T> loss(1, T(7)), expected = out, expected_loss = loss;
      MseArgs<T> args{size,
                      {x.data() + first, shape, pred},
                      {y.data() + first, shape, target},
                      output,
                      output == MseOutput::none ? nullptr : expected.data(),
                      scale_or_zero(Reduction::half_mean, static_cast<double>(size)),
                      with_loss ? expected_loss.data() : nullptr};
      reference_device<T>().mse(args);
      const OnDevice<T> on_out(out), on_loss(loss);
      args.pred.data = on_x.data() + first;
      args.target.data = on_y.data() + first;
      args.out = output == MseOutput::none ? nullptr : on_out.data();
      args.loss = with_loss ? on_loss.data() : nullptr;
      cuda::mse(args);
      expect(same(on_out.host(), expected) && same(on_loss.host(), expected_loss),
             "mse %s of %lld, %zu dimensions, first %lld, output %d, loss %d",
             sizeof(T) == 4 ? "f32" : "f64", static_cast<long long>(size), shape.size(),
             static_cast<long long>(first), static_cast<int>(output), with_loss);
    }
}

template <class T>
void mse() {
  for (const int64_t n : {0,  1,   2,   3,   4,   7,   8,    9,    15,   16,    17,    31,
                          33, 127, 129, 511, 512, 513, 1023, 1024, 1025, 16384, 16385, 20000}) {
    const bool special = n % 2 == 1 && n < 1000;
    mse_case<T>(n, {n}, {1}, {1}, n + 1, 0, special);
    mse_case<T>(n, {n}, {1}, {1}, n + 1, 1, false);  // not aligned
    mse_case<T>(n, {n}, {2}, {-1}, 3 * n + 2, n, special);
    mse_case<T>(n * 6, {n, 2, 3}, {6, 3, 1}, {1, 3 * n, n}, 6 * n + 1, 0, special);
  }
  mse_case<T>(1, {}, {}, {}, 24, 0, false);
  mse_case<T>(6000, {3, 1, 20, 2, 5, 1, 10}, {0, 9, 10, 5, 1, 3, 0}, {7, 1, 0, 2, 0, 0, 1}, 2000, 9,
              false);
  for (const int64_t n : {chain_terms<T> - 1, chain_terms<T>, chain_terms<T> + 513})
    mse_case<T>(n, {n}, {1}, {1}, n, 0, false);
  mse_case<T>(2 * chain_terms<T> + 5, {2 * chain_terms<T> + 5}, {0}, {1}, 2 * chain_terms<T> + 5, 0,
              false);
}

template <class T>
void sgd() {
  for (const int64_t n : {0, 1, 3, 255, 256, 257, 1023, 1024, 1025, 4100})
    for (int options = 0; options < 64; ++options) {
      if (is_skipped(61)) continue;
      const bool has_velocity = options & 1, first = options & 2;
      SgdOptions sgd;
      sgd.momentum = has_velocity ? 0.9 : 0.0;
      sgd.maximize = options & 4;
      sgd.nesterov = options & 8;
      sgd.dampening = options & 16 ? 0.3 : 0.0;
      sgd.weight_decay = options & 32 ? 0.01 : 0.0;
      auto param = draw<T>(n + 1, 7), grad = draw<T>(n + 1, 8), velocity = draw<T>(n + 1, 9);
      if (options % 3 == 0) put_specials(grad);
      const OnDevice<T> on_param(param), on_grad(grad), on_velocity(velocity);
      reference_device<T>().sgd(n, param.data(), grad.data(),
                                has_velocity ? velocity.data() : nullptr, first, 0.1, sgd);
      cuda::sgd<T>(n, on_param.data(), on_grad.data(), has_velocity ? on_velocity.data() : nullptr,
                   first, 0.1, sgd);
      expect(same(on_param.host(), param) && same(on_velocity.host(), velocity),
             "sgd of %lld, options %d", static_cast<long long>(n), options);
    }
}

template <class T>
void all() {
  any_shape<T>();
  every_tile<T>();
  long_chains<T>();
  batches<T>();
  pieces_of<T>(0);
  pieces_of<T>(sum_levels - 1);
  mse<T>();
  sgd<T>();
}

// Tensor cores that add in another order are found out. EMULATION_BACKWARD_MMA=1 makes all of this
// program run on such ones.
void tensor_cores() {
  const OnDevice<double> here({0.0});
  const bool backward = std::getenv("EMULATION_BACKWARD_MMA") != nullptr;
  expect(cuda::tensor_cores_follow_chain() == !backward, "the test of tensor cores");
  for (const bool wrong : {true, false}) {
    set_emulation("backward_mma", wrong);
    expect(cuda::test_tensor_cores() == !wrong, "the test of tensor cores, wrong: %d", wrong);
  }
  set_emulation("backward_mma", backward);
}

}  // namespace

void products() {
  tensor_cores();
  far_strides();
  all<float>();
  all<double>();
}

}  // namespace gdcore::check
