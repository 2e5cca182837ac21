// What the design of the kernels takes for granted, asked of the GPU itself; prints JSON.
// nvcc -std=c++17 -O3 -fmad=false -arch=native -o probe probe.cu
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#define OK(call)                                                          \
  do {                                                                    \
    const cudaError_t error = (call);                                     \
    if (error != cudaSuccess) {                                           \
      std::fprintf(stderr, "%s: %s\n", #call, cudaGetErrorString(error)); \
      std::exit(1);                                                       \
    }                                                                     \
  } while (0)

// ---- Are float64 tensor cores the chain of fma in the order of k?

__device__ uint64_t mix(uint64_t x) {
  x ^= x >> 33;
  x *= 0xff51afd7ed558ccdull;
  x ^= x >> 33;
  x *= 0xc4ceb9fe1a85ec53ull;
  return x ^ x >> 33;
}

// Kind 0: numbers of usual sizes. 1: any exponent, subnormals. 2: with zeros and infinities.
__device__ double draw(uint64_t key, int kind) {
  const uint64_t h = mix(key);
  if (kind == 1) return __longlong_as_double(h & ~(1ull << 62));
  if (kind == 2 && h % 9 == 0) return h & 16 ? -0.0 : h & 32 ? 1.0 / 0.0 : 0.0;
  return ldexp(static_cast<double>(h >> 11) * 0x1p-53 - 0.5, static_cast<int>(h % 41) - 20);
}

__device__ bool same(double x, double y) {
  return (x != x && y != y) || __double_as_longlong(x) == __double_as_longlong(y);
}

__global__ void tensor_order(int trials, unsigned long long* differ) {
  const int lane = threadIdx.x % 32;
  for (int t = blockIdx.x; t < trials; t += gridDim.x) {
    const int kind = t % 3;
    const uint64_t key = static_cast<uint64_t>(t) << 20;
    double c0 = 0, c1 = 0, e0 = 0, e1 = 0;
    for (int k = 0; k < 16; k += 4) {
      const double a = draw(key | 1 << 18 | (lane / 4) << 8 | (k + lane % 4), kind);
      const double b = draw(key | 2 << 18 | (k + lane % 4) << 8 | lane / 4, kind);
      asm("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0,%1}, {%2}, {%3}, {%0,%1};"
          : "+d"(c0), "+d"(c1)
          : "d"(a), "d"(b));
      for (int i = 0; i < 4; ++i) {
        const double x = __shfl_sync(~0u, a, lane / 4 * 4 + i);
        e0 = __fma_rn(x, __shfl_sync(~0u, b, lane % 4 * 2 * 4 + i), e0);
        e1 = __fma_rn(x, __shfl_sync(~0u, b, (lane % 4 * 2 + 1) * 4 + i), e1);
      }
    }
    if (!same(c0, e0) || !same(c1, e1)) atomicAdd(differ + kind, 1ull);
  }
}

// ---- How long do dependent operations take?

enum class Op { add, fused };

template <class T, Op op>
__global__ void latency(T x, T y, long long* cycles, T* out) {
  constexpr int length = 4096;
  T s = x;
  const long long before = clock64();
#pragma unroll 64
  for (int i = 0; i < length; ++i) s = op == Op::fused ? fma(s, y, x) : s + y;
  cycles[0] = clock64() - before;
  out[0] = s;
}

template <class T, Op op>
double cycles_each() {
  long long* cycles;
  T* out;
  OK(cudaMallocHost(&cycles, sizeof *cycles));
  OK(cudaMallocHost(&out, sizeof *out));
  for (int i = 0; i < 2; ++i) {  // the first time loads the code
    latency<T, op><<<1, 1>>>(T(1), T(0.5), cycles, out);
    OK(cudaDeviceSynchronize());
  }
  return static_cast<double>(*cycles) / 4096;
}

// ---- How fast are independent ones?

template <class T>
__global__ void __launch_bounds__(256) fused_peak(T x, T* out) {
  T s[16];
  for (int i = 0; i < 16; ++i) s[i] = x + static_cast<T>(threadIdx.x + i);
#pragma unroll 4
  for (int n = 0; n < 4096; ++n)
#pragma unroll
    for (int i = 0; i < 16; ++i) s[i] = fma(s[i], x, x);
  T sum = 0;
  for (int i = 0; i < 16; ++i) sum += s[i];
  if (sum == T(-1)) *out = sum;  // never: keeps the loop
}

__global__ void __launch_bounds__(256) tensor_peak(double x, double* out) {
  double s[16];
  for (int i = 0; i < 16; ++i) s[i] = x + threadIdx.x + i;
  for (int n = 0; n < 2048; ++n)
#pragma unroll
    for (int i = 0; i < 16; i += 2)
      asm volatile("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0,%1}, {%2}, {%3}, {%0,%1};"
                   : "+d"(s[i]), "+d"(s[i + 1])
                   : "d"(x), "d"(x));
  double sum = 0;
  for (int i = 0; i < 16; ++i) sum += s[i];
  if (sum == -1) *out = sum;
}

// ---- Sums and bytes

// A thread adds `count` neighbours in order: what the contract asks of partials.
__global__ void fold(const double* partials, int64_t total, int64_t count, double* out) {
  const int64_t piece = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int64_t first = piece * count;
  if (first >= total) return;
  double sum = partials[first];
#pragma unroll 16
  for (int64_t i = 1; i < count && first + i < total; ++i) sum += partials[first + i];
  out[piece] = sum;
}

__global__ void read_all(const float4* x, int64_t n, float* out) {
  float sum = 0;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step) {
    const float4 v = x[i];
    sum += (v.x + v.y) + (v.z + v.w);
  }
  if (sum == -1) *out = sum;
}

template <class Run>
double best_ms(int times, const Run& run) {
  cudaEvent_t before, after;
  OK(cudaEventCreate(&before));
  OK(cudaEventCreate(&after));
  double best = 1e30;
  for (int i = 0; i < times; ++i) {
    OK(cudaEventRecord(before));
    run();
    OK(cudaEventRecord(after));
    OK(cudaDeviceSynchronize());
    float ms;
    OK(cudaEventElapsedTime(&ms, before, after));
    best = ms < best ? ms : best;
  }
  return best;
}

int main() {
  cudaDeviceProp device;
  OK(cudaGetDeviceProperties(&device, 0));
  const int multiprocessors = device.multiProcessorCount;

  constexpr int warps = 3000000;
  unsigned long long differ[3], *on_device;
  OK(cudaMalloc(&on_device, sizeof differ));
  OK(cudaMemset(on_device, 0, sizeof differ));
  tensor_order<<<1024, 32>>>(warps, on_device);
  OK(cudaMemcpy(differ, on_device, sizeof differ, cudaMemcpyDeviceToHost));

  float* out;
  OK(cudaMalloc(&out, 1 << 24));
  double* const wide = reinterpret_cast<double*>(out);
  const int blocks = 8 * multiprocessors;
  const double fused = 2.0 * 4096 * 16 * 256 * blocks;
  const double f32 = fused / best_ms(3, [&] { fused_peak<<<blocks, 256>>>(0.5f, out); });
  const double f64 = fused / best_ms(3, [&] { fused_peak<<<blocks, 256>>>(0.5, wide); });
  const double products = 2.0 * 8 * 8 * 4 * 8 * 2048 * 8 * blocks;
  const double tensor = products / best_ms(3, [&] { tensor_peak<<<blocks, 256>>>(0.5, wide); });

  constexpr int64_t partials = 1953125;  // of a sum of 1e9 terms
  double* p;
  OK(cudaMalloc(&p, partials * 8));
  OK(cudaMemset(p, 0, partials * 8));
  const double chain = best_ms(2, [&] { fold<<<1, 1>>>(p, partials, partials, wide); });
  const double folds = best_ms(4, [&] {
    fold<<<60, 64>>>(p, partials, 512, wide);
    fold<<<1, 64>>>(wide, 3815, 512, wide + 4096);
    fold<<<1, 1>>>(wide + 4096, 8, 512, wide + 8192);
  });

  constexpr size_t bytes = size_t{4} << 30;
  char *x, *y;
  OK(cudaMalloc(&x, bytes));
  OK(cudaMalloc(&y, bytes));
  OK(cudaMemset(x, 0, bytes));
  const double copy =
      best_ms(5, [&] { OK(cudaMemcpyAsync(y, x, bytes, cudaMemcpyDeviceToDevice)); });
  const double read = best_ms(5, [&] {
    read_all<<<16 * multiprocessors, 256>>>(reinterpret_cast<float4*>(x), bytes / 16, out);
  });

  std::printf("{\"name\": \"%s\", \"multiprocessors\": %d, \"shared_kb_a_block\": %d, ",
              device.name, multiprocessors, static_cast<int>(device.sharedMemPerBlockOptin >> 10));
  std::printf("\"tensor_order_warps\": %d, \"differ_usual\": %llu, \"differ_any_exponent\": %llu, ",
              warps, differ[0], differ[1]);
  std::printf("\"differ_zeros_infinities\": %llu, ", differ[2]);
  std::printf("\"cycles_ffma\": %.2f, \"cycles_fadd\": %.2f, ", cycles_each<float, Op::fused>(),
              cycles_each<float, Op::add>());
  std::printf("\"cycles_dfma\": %.2f, \"cycles_dadd\": %.2f, ", cycles_each<double, Op::fused>(),
              cycles_each<double, Op::add>());
  std::printf("\"tflops_f32\": %.1f, \"tflops_f64\": %.1f, \"tflops_f64_tensor\": %.1f, ",
              1e-9 * f32, 1e-9 * f64, 1e-9 * tensor);
  std::printf("\"ms_chain_of_1e9\": %.3f, \"ms_folds_of_1e9\": %.3f, ", chain, folds);
  std::printf("\"tb_s_copied\": %.3f, \"tb_s_read\": %.3f}\n", 2e-9 * bytes / copy,
              1e-9 * bytes / read);
  return 0;
}
