#include "cuda_operations.hpp"

namespace gdcore::check {

void rows() {}

}  // namespace gdcore::check
