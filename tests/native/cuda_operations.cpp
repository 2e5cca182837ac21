// Compares the CUDA device with the reference loops, bit for bit, on the driver that
// GDCORE_CUDA_DRIVER names. usage: gdcore_cuda_operations [products] [rows] [descents]
#include "cuda_operations.hpp"

#include <string>

#include "fp_env.hpp"

int main(int count, char** given) {
  using namespace gdcore;
  const FpEnv env;
  const cuda::Scope scope({0, nullptr});
  const auto wanted = [&](const char* name) {
    bool named = count == 1;
    for (int i = 1; i < count; ++i) named = named || std::string(given[i]) == name;
    return named;
  };
  if (wanted("products")) check::products();
  if (wanted("rows")) check::rows();
  if (wanted("descents")) check::descents();
  std::printf("%d cases, %d failures\n", check::cases, check::failures);
  return check::failures > 0;
}
