// DLPack 1.3: how libraries hand arrays to each other. The layout of these structs is its ABI; see
// https://dmlc.github.io/dlpack/latest/c_api.html
#pragma once

#include <cstdint>

namespace gdcore::dlpack {

enum DeviceType : int32_t { cpu = 1, cuda = 2, cuda_host = 3, cuda_managed = 13 };
enum TypeCode : uint8_t {
  integer = 0,
  unsigned_integer = 1,
  floating = 2,
  bfloat = 4,
  boolean = 6
};

struct Version {
  uint32_t major, minor;
};

struct Device {
  int32_t type, id;
};

struct DataType {
  uint8_t code, bits;
  uint16_t lanes;
};

struct Tensor {
  void* data;
  Device device;
  int32_t ndim;
  DataType dtype;
  int64_t *shape, *strides;  // strides in elements; null: C-contiguous
  uint64_t byte_offset;
};

struct Managed {  // before DLPack 1.0
  Tensor tensor;
  void* context;
  void (*deleter)(Managed*);
};

constexpr uint64_t read_only = 1;

struct Versioned {
  Version version;
  void* context;
  void (*deleter)(Versioned*);
  uint64_t flags;
  Tensor tensor;
};

// A library's functions: the capsule "dlpack_exchange_api" in type(x).__dlpack_c_exchange_api__.
// Functions return 0, or another number with a Python error set.
struct Api {
  Version version;
  Api* previous;
  int (*allocate)(Tensor* like, Versioned** out, void* error_context,
                  void (*set_error)(void* error_context, const char* kind, const char* message));
  int (*from_object)(void* object, Versioned** out);
  int (*to_object)(Versioned* tensor, void** object);
  int (*view)(void* object, Tensor* out);  // borrowed: while the object lives
  int (*current_stream)(int32_t device_type, int32_t device_id, void** stream);
};

}  // namespace gdcore::dlpack
