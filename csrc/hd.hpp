// What a host compiler and a GPU's compile from the same source.
#pragma once

#ifdef __CUDACC__
#define GDCORE_HD __host__ __device__
#else
#define GDCORE_HD
#endif
