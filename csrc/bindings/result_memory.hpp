// Memory of large results. A fresh page costs the kernel as much as a result costs us, so the
// memory of a result that is gone serves the next of its size. Until then the kernel may take it
// back whenever memory is short (MADV_FREE).
#pragma once

#include "bindings/array.hpp"

namespace gdcore {

// C-contiguous, not filled.
py::array empty_result(const Dims& shape, bool single);

}  // namespace gdcore
