#include "cpu/dispatch.hpp"

#include <atomic>
#include <stdexcept>

namespace gdcore {

#define GDCORE_DECLARE(name)               \
  extern const IsaTable<float> name##_f32; \
  extern const IsaTable<double> name##_f64;
GDCORE_DECLARE(isa_baseline)
#if defined(GDCORE_HAS_AVX2)
GDCORE_DECLARE(isa_avx2)
#endif
#if defined(GDCORE_HAS_AVX512)
GDCORE_DECLARE(isa_avx512)
#endif
#if defined(GDCORE_HAS_NEON)
GDCORE_DECLARE(isa_neon)
#endif

namespace {

struct Row {
  const IsaTable<float>* f32;
  const IsaTable<double>* f64;
  bool (*runs_here)();
};

bool always() { return true; }

// Slowest first; the last one that runs here is chosen.
const Row rows[] = {
    {&isa_baseline_f32, &isa_baseline_f64, always},
#if defined(GDCORE_HAS_AVX2)
    {&isa_avx2_f32, &isa_avx2_f64,
     [] { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }},
#endif
#if defined(GDCORE_HAS_AVX512)
    {&isa_avx512_f32, &isa_avx512_f64,
     [] {
       return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
              __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
              __builtin_cpu_supports("fma");
     }},
#endif
#if defined(GDCORE_HAS_NEON)
    {&isa_neon_f32, &isa_neon_f64, always},
#endif
};

std::atomic<const Row*> chosen{rows};
std::atomic<bool> reference{false};

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const auto& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

}  // namespace

template <>
const IsaTable<float>& isa<float>() {
  return *chosen.load(std::memory_order_relaxed)->f32;
}
template <>
const IsaTable<double>& isa<double>() {
  return *chosen.load(std::memory_order_relaxed)->f64;
}

std::vector<std::string> built_isas() {
  std::vector<std::string> names;
  for (const Row& row : rows) names.push_back(row.f32->name);
  return names;
}

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const Row& row : rows)
    if (row.runs_here()) names.push_back(row.f32->name);
  return names;
}

void choose_isa(const std::string& name) {
  if (name == "reference") {
    reference = true;
    return;
  }
  for (const Row& row : rows) {
    if (name == row.f32->name && row.runs_here()) {
      chosen = &row;
      reference = false;
      return;
    }
  }
  throw std::invalid_argument(
      "GDCORE_ISA: '" + name +
      "' is not an instruction set this machine and build can run; choose one of " +
      joined(available_isas()) + ".");
}

std::string chosen_isa() { return reference ? "reference" : chosen.load()->f32->name; }
bool reference_chosen() { return reference.load(std::memory_order_relaxed); }

bool reads_in_order() {
#if defined(__x86_64__)
  return __builtin_cpu_is("amd");
#else
  return false;
#endif
}

}  // namespace gdcore
