#include "cpu/parallel.hpp"

#include "cpu/parts.hpp"
#include "fp_env.hpp"

namespace gdcore {

void run_parts(int64_t count, Team team, Part part, void* context) {
  FpEnv env;
  // A fork leaves the child without the threads of its parent.
  if (team.threads == 1 || count <= 1 || is_forked_child()) {
    for (int64_t p = 0; p < count; ++p) part(context, p, 0);
    return;
  }
  const ThreadScope alone(1);
  Parts parts(count, team.threads, part, context);
  run_on_engine(parts, team);
  parts.rethrow();
}

}  // namespace gdcore
