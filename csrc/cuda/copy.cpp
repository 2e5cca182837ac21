#include "cuda/copy.hpp"

#include <algorithm>

#include "cuda/batch.hpp"
#include "cuda/driver.hpp"
#include "cuda/kernels/copy_params.hpp"
#include "cuda/launch.hpp"

namespace gdcore::cuda {
namespace {

template <class T>
void launch_copy(const CopyParams<T>& p) {
  constexpr int threads = 256;
  launch(kernel_of<T>("copy").c_str(), ceil_div(p.size, int64_t{threads}), threads, 0, p);
}

}  // namespace

template <class T>
void copy(const Elements<const T>& from, const Elements<T>& to) {
  Merged<2> merged;
  for (size_t dim = 0; dim < to.shape.size(); ++dim)
    merged.append(to.shape[dim], {to.strides[dim], from.strides[dim]});
  CopyParams<T> p{};
  p.size = merged.elements;
  p.to = to.data;
  p.from = from.data;
  p.dims = static_cast<int>(merged.shape.size());
  for (size_t dim = 0; dim < merged.shape.size(); ++dim) {
    p.shape[dim] = merged.shape[dim];
    p.to_strides[dim] = merged.strides[0][dim];
    p.from_strides[dim] = merged.strides[1][dim];
  }
  launch_copy(p);
}

template <class T>
void set(T* to, T value) {
  CopyParams<T> p{};
  p.size = 1;
  p.to = to;
  p.value = value;
  launch_copy(p);
}

void write(uint64_t* to, const uint64_t* values, int64_t size) {
  constexpr int threads = 256;
  for (int64_t first = 0; first < size; first += WriteParams::most) {
    WriteParams p{};
    p.size = std::min<int64_t>(size - first, WriteParams::most);
    p.to = to + first;
    std::copy_n(values + first, p.size, p.values);
    launch("write_words", ceil_div(p.size, int64_t{threads}), threads, 0, p);
  }
}

template void copy(const Elements<const float>&, const Elements<float>&);
template void copy(const Elements<const double>&, const Elements<double>&);
template void set(float*, float);
template void set(double*, double);

}  // namespace gdcore::cuda
