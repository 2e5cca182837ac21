#include "cuda/kernels/language.hpp"
