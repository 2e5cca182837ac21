// libcuda on this CPU: streams, events, graphs that capture a stream.
#include "state.hpp"

namespace {

using namespace emulation;

struct Executable {
  std::shared_ptr<Graph> graph;
};

int run_all(const Graph& graph) {
  for (const Task& task : graph.tasks)
    if (const int error = task()) return error;
  return success;
}

}  // namespace

API int cuStreamCreate(void** stream, unsigned flags) {
  constexpr unsigned non_blocking = 1;
  return with_device([&](Device& device) {
    auto made = std::make_unique<Stream>(device, !(flags & non_blocking));
    *stream = made.get();
    device.streams.insert(std::move(made));
    return success;
  });
}
API int cuStreamDestroy_v2(void* stream) {
  return with_stream(stream, [&](Device& device, Stream& of) {
    drain(of);
    for (auto each = device.streams.begin(); each != device.streams.end(); ++each)
      if (each->get() == &of) {
        device.streams.erase(each);
        return success;
      }
    return invalid_handle;
  });
}
API int cuStreamSynchronize(void* stream) {
  return with_stream(stream, [&](Device& device, Stream& of) {
    log("synchronize stream %p", stream);
    if (const int error = forbidden_in_captures("cuStreamSynchronize")) return error;
    if (&of == &device.legacy) {
      for (Stream* const other : device.all_streams())
        if (other->blocking) drain(*other);
    }
    drain(of);
    return device.broken;
  });
}
API int cuStreamQuery(void* stream) {
  return with_stream(
      stream, [](Device&, Stream& of) { return of.done == of.queued ? success : not_ready; });
}

API int cuEventCreate(void** event, unsigned) {
  *event = new Event;
  return success;
}
API int cuEventDestroy_v2(void* event) {
  delete static_cast<Event*>(event);
  return success;
}
API int cuEventRecord(void* event, void* stream) {
  return with_stream(stream, [&](Device&, Stream& of) {
    if (of.capture) return capture_unsupported;
    *static_cast<Event*>(event) = {&of, of.queued};
    return success;
  });
}
API int cuEventSynchronize(void* event) {
  return with_device([&](Device& device) {
    log("synchronize event");
    if (const int error = forbidden_in_captures("cuEventSynchronize")) return error;
    const Event& at = *static_cast<Event*>(event);
    if (at.stream) drain(*at.stream, at.position);
    return device.broken;
  });
}
API int cuStreamWaitEvent(void* stream, void* event, unsigned) {
  return with_stream(stream, [&](Device& device, Stream& of) {
    log("wait stream %p", stream);
    const Event& at = *static_cast<Event*>(event);
    if (of.capture) return static_cast<int>(capture_unsupported);
    if (at.stream) drain(*at.stream, at.position);
    return device.broken;
  });
}

API int cuThreadExchangeStreamCaptureMode(int* mode) {
  constexpr int relaxed_mode = 2;
  const bool before = relaxed();
  relaxed() = *mode == relaxed_mode;
  *mode = before ? relaxed_mode : 0;
  return success;
}
API int cuStreamBeginCapture_v2(void* stream, int) {
  return with_stream(stream, [&](Device& device, Stream& of) {
    if (&of == &device.legacy || of.capture) return capture_unsupported;
    drain(of);
    of.capture = std::make_shared<Graph>(device);
    state().captures.insert(of.capture.get());
    return success;
  });
}
API int cuStreamIsCapturing(void* stream, int* status) {
  return with_stream(stream, [&](Device&, Stream& of) {
    *status = of.capture ? 1 : 0;
    return success;
  });
}
API int cuStreamEndCapture(void* stream, void** graph) {
  return with_stream(stream, [&](Device&, Stream& of) {
    if (!of.capture) return invalid_value;
    const std::shared_ptr<Graph> captured = std::move(of.capture);
    of.capture = nullptr;
    state().captures.erase(captured.get());
    if (captured->invalid) return capture_invalidated;
    *graph = new Executable{captured};
    return success;
  });
}
API int cuGraphInstantiateWithFlags(void** executable, void* graph, unsigned long long) {
  *executable = new Executable(*static_cast<Executable*>(graph));
  return success;
}
API int cuGraphLaunch(void* executable, void* stream) {
  return with_stream(stream, [&](Device&, Stream& to) {
    log("launch graph stream %p", stream);
    const std::shared_ptr<Graph> graph = static_cast<Executable*>(executable)->graph;
    return enqueue(to, [graph] { return run_all(*graph); });
  });
}
API int cuGraphDestroy(void* graph) {
  const std::lock_guard lock(state().mutex);
  delete static_cast<Executable*>(graph);
  return success;
}
API int cuGraphExecDestroy(void* executable) { return cuGraphDestroy(executable); }
