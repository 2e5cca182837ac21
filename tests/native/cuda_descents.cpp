#include "cuda_operations.hpp"

namespace gdcore::check {

void descents() {}

}  // namespace gdcore::check
