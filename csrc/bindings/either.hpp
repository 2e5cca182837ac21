// The float or the double variant of a class template, behind one Python class.
#pragma once

#include <memory>
#include <mutex>
#include <type_traits>
#include <utility>
#include <variant>

#include "bindings/arrays.hpp"
#include "cpu/threads.hpp"

namespace gdcore {

template <template <class> class X>
class Either {
 public:
  // make(float{}) or make(double{}) returns the object, as std::unique_ptr<X<T>>.
  template <class Make>
  Either(bool single, Make&& make)
      : x_(dispatch(single, [&](auto zero) -> Variant { return make(zero); })) {}

  // Calls f with the object.
  template <class F>
  decltype(auto) visit(F&& f) const {
    return std::visit([&](const auto& x) -> decltype(auto) { return f(*x); }, x_);
  }
  // The same while no other thread works on it.
  template <class F>
  auto locked(F&& f) const {
    std::unique_lock lock(*mutex_, std::try_to_lock);
    if (!lock) {
      py::gil_scoped_release release;
      lock.lock();
    }
    return visit(f);
  }
  // The same without the GIL, on `n_threads` threads; 0 leaves their number as it is.
  template <class F>
  auto run(int n_threads, F&& f) const {
    const ThreadScope scope(n_threads);
    return locked([&](auto& x) { return compute([&] { return f(x); }); });
  }

 private:
  using Variant = std::variant<std::unique_ptr<X<float>>, std::unique_ptr<X<double>>>;
  Variant x_;
  std::unique_ptr<std::mutex> mutex_ = std::make_unique<std::mutex>();
};

// f as a method or property of the Python class.
template <template <class> class X, class F>
auto reading(F f) {
  return [f](const Either<X>& either) { return either.visit(f); };
}

// Works for about `seconds` on `n_threads` threads; true when done.
template <template <class> class X>
bool advance(const Either<X>& either, double seconds, int n_threads) {
  return either.run(n_threads, [&](auto& x) { return x.advance(seconds); });
}

// The T of an X<T>.
template <class X>
struct NumberOf;
template <template <class> class X, class T>
struct NumberOf<X<T>> {
  using type = T;
};
template <class X>
using Number = typename NumberOf<std::decay_t<X>>::type;

}  // namespace gdcore
