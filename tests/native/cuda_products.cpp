#include "cuda_operations.hpp"

namespace gdcore::check {

void products() {}

}  // namespace gdcore::check
