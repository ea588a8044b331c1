// Which backends this build has. A backend folder defines make_backend() in its namespace; the
// build defines LC_WITH_CUDA and LC_WITH_METAL where those folders are compiled.
#include "backends/backend.hpp"
#include "runtime/fork_mutex.hpp"

namespace lc {

namespace cpu {
Backend* make_backend();
}
namespace null {
Backend* make_backend();
}
#ifdef LC_WITH_CUDA
namespace cuda {
Backend* make_backend();
}
#endif
#ifdef LC_WITH_METAL
namespace metal {
Backend* make_backend();
}
#endif

Backend* backend(DeviceKind kind) noexcept {
  // Never destroyed: tensors may be freed by static destructors of the program.
  switch (kind) {
    case DeviceKind::kCpu: {
      static Backend* const b = cpu::make_backend();
      return b;
    }
    case DeviceKind::kNull: {
      static Backend* const b = null::make_backend();
      return b;
    }
#ifdef LC_WITH_CUDA
    case DeviceKind::kCuda: {
      static Backend* const b = cuda::make_backend();
      return b;
    }
#endif
#ifdef LC_WITH_METAL
    case DeviceKind::kMetal: {
      static Backend* const b = metal::make_backend();
      return b;
    }
#endif
    default:
      return nullptr;
  }
}

LC_AT_LOAD(backend(DeviceKind::kCpu) == backend(DeviceKind::kNull))

}  // namespace lc
