// Sizes or strides of an array's dimensions, kept in place: a call allocates nothing for them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <stdexcept>

namespace gdcore {

class Dims {
 public:
  static constexpr size_t most = 64;  // as many as NumPy's arrays have

  Dims() {}                 // = default would fill the values with zeros wherever it is written {}
  template <class Integer>  // int64_t, or what the platform's ssize_t is
  Dims(const Integer* first, const Integer* last) {
    for (; first != last; ++first) push_back(static_cast<int64_t>(*first));
  }
  Dims(std::initializer_list<int64_t> values) : Dims(values.begin(), values.end()) {}
  Dims(const Dims& other) : Dims(other.begin(), other.end()) {}  // not what is past the end
  Dims& operator=(const Dims& other) {
    size_ = other.size_;
    std::copy(other.begin(), other.end(), values_);
    return *this;
  }

  void clear() { size_ = 0; }
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  const int64_t* begin() const { return values_; }
  const int64_t* end() const { return values_ + size_; }
  int64_t operator[](size_t i) const { return values_[i]; }
  int64_t& operator[](size_t i) { return values_[i]; }
  int64_t back() const { return values_[size_ - 1]; }
  int64_t& back() { return values_[size_ - 1]; }

  void push_back(int64_t value) {
    if (size_ == most)
      throw std::length_error(
          "the result would have more than 64 dimensions, which NumPy's arrays have at most.");
    values_[size_++] = value;
  }
  // All but the last `count`, or none if there are fewer.
  Dims without_last(size_t count) const { return Dims(begin(), end() - std::min(count, size_)); }

  friend bool operator==(const Dims& a, const Dims& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end());
  }
  friend bool operator!=(const Dims& a, const Dims& b) { return !(a == b); }

 private:
  size_t size_ = 0;
  int64_t values_[most];
};

// Where element `index`, counted in C order, of an array of these strides lies.
inline int64_t offset_of(int64_t index, const Dims& shape, const Dims& strides) {
  int64_t offset = 0;
  for (size_t dim = shape.size(); dim-- > 0; index /= shape[dim])
    offset += index % shape[dim] * strides[dim];
  return offset;
}

}  // namespace gdcore
