// Compares the CUDA device with the reference loops, bit for bit, on the driver that
// GDCORE_CUDA_DRIVER names. usage: gdcore_cuda_operations [--few] [products] [rows] [descents]
#include "cuda_operations.hpp"

#include <set>
#include <string>

#include "fp_env.hpp"

int main(int count, char** given) {
  using namespace gdcore;
  const FpEnv env;
  const cuda::Scope scope({0, nullptr});
  std::set<std::string> named(given + 1, given + count);
  check::few = named.erase("--few") > 0;
  const auto wanted = [&](const char* name) { return named.empty() || named.count(name) > 0; };
  if (wanted("products")) check::products();
  if (wanted("rows")) check::rows();
  if (wanted("descents")) check::descents();
  std::printf("%d cases, %d failures\n", check::cases, check::failures);
  return check::failures > 0;
}
