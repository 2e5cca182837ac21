// The largest eigenvalues of Hessians: small ones side by side in the lanes of vectors.
#include <algorithm>
#include <vector>

#include "cpu/dispatch.hpp"
#include "cpu/operations.hpp"
#include "cpu/share.hpp"
#include "lanczos.hpp"

namespace gdcore::cpu {
namespace {

// What a thread keeps from call to call, so that small problems allocate nothing.
template <class T>
class CurvatureLanes {
 public:
  // Hessians of p <= most_lane_params parameters; count <= lanes.
  void run(int64_t count, const CurvatureArgs* hessians) {
    const int64_t p = hessians->p, size = p * (p + 1) / 2;
    if (static_cast<int64_t>(start_.size()) != p) start_ = Lanczos::random_start(p);
    G_.resize(static_cast<size_t>(PackedQuadratic<T>::parts * size * lanes));
    for (int64_t lane = 0; lane < lanes; ++lane)  // those left over repeat the last one
      load(lane, hessians[std::min(lane, count - 1)]);
    double largest[lanes], residual[lanes];
    isa<T>().curvature_lanes({p, G_.data(), start_.data(), Lanczos::accuracy,
                              Lanczos::most_exponent, largest, residual});
    for (int64_t lane = 0; lane < count; ++lane) {
      *hessians[lane].largest = largest[lane];
      *hessians[lane].residual = residual[lane];
    }
  }

 private:
  void load(int64_t lane, const CurvatureArgs& args) {
    const int64_t size = args.p * (args.p + 1) / 2, part = size + args.t * (args.p + 1);
    double* to = G_.data() + lane;
    for (int64_t low = 0; low < PackedQuadratic<T>::parts; ++low)
      for (int64_t i = 0; i < size; ++i, to += lanes) *to = args.quadratic[low * part + i];
  }

  std::vector<double> start_, G_;
};

template <class T>
struct CurvatureMemory {
  CurvatureLanes<T> in_lanes;
  PlainCurvatures<T> plain{cpu::quadratic<T>};
};
template <class T>
CurvatureMemory<T>& curvature_memory() {
  thread_local CurvatureMemory<T> memory;
  return memory;
}

}  // namespace

template <class T>
void curvature_each(int64_t count, const CurvatureArgs* hessians) {
  int64_t work = 0;
  for (int64_t i = 0; i < count; ++i) work += 4 * hessians[i].p * hessians[i].p * hessians[i].p;
  share_lanes(
      count, work, [&](int64_t i) { return hessians[i].p <= most_lane_params ? hessians[i].p : 0; },
      [&](int64_t begin, int64_t held) {
        curvature_memory<T>().in_lanes.run(held, hessians + begin);
      },
      [&](int64_t i) { curvature_memory<T>().plain.run(hessians[i]); });
}

template void curvature_each<float>(int64_t, const CurvatureArgs*);
template void curvature_each<double>(int64_t, const CurvatureArgs*);

}  // namespace gdcore::cpu
