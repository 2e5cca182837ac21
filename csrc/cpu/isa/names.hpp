// Names of tables that are compiled once for each instruction set, such as isa_avx2_f32.
#pragma once

#define GDCORE_STRING_(x) #x
#define GDCORE_STRING(x) GDCORE_STRING_(x)
#define GDCORE_JOIN_(a, b) a##b
#define GDCORE_JOIN(a, b) GDCORE_JOIN_(a, b)
#define GDCORE_NAME(prefix, suffix) GDCORE_JOIN(GDCORE_JOIN(prefix, GDCORE_ISA), suffix)
