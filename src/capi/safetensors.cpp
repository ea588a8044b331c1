// Safetensors files as handles. A handle is looked up among the open ones before it is used, so
// that one closed twice or made up is an error.
#include "lightning_core/safetensors.hpp"

#include <algorithm>
#include <map>
#include <mutex>

#include "lightning_core/lightning_core.h"
#include "runtime/fork_mutex.hpp"
#include "runtime/last_error.hpp"

struct lcSafetensors {
  lc::SafetensorsFile file;
  std::map<std::string, lc::Tensor, std::less<>> copies;  ///< misaligned tensors asked for
};

namespace lc::capi {
namespace {

struct OpenFiles {
  ForkMutex mutex{LockRank::kCompat};
  std::map<const lcSafetensors*, std::shared_ptr<lcSafetensors>> files;
};

OpenFiles& open_files() {
  static auto* open = new OpenFiles;
  return *open;
}

/// The file keeps existing for the caller, whoever closes it meanwhile.
std::shared_ptr<lcSafetensors> find_file(const char* function, const lcSafetensors* handle) {
  {
    const std::lock_guard lock(open_files().mutex);
    const auto at = open_files().files.find(handle);
    if (at != open_files().files.end()) return at->second;
  }
  throw_arg(function, "file", "an open file",
            handle == nullptr ? "a null pointer" : "a handle that is not open",
            "lcSafetensorsOpen() gives one");
}

template <typename T>
void check_place(const char* function, const char* argument, const T* place) {
  if (place == nullptr) throw_arg(function, argument, "a place for the result", "a null pointer");
}

const char* checked_text(const char* function, const char* argument, const char* text) {
  if (text == nullptr) throw_arg(function, argument, "a string", "a null pointer");
  return text;
}

template <typename F>
lcError_t call(F&& f) {
  return static_cast<lcError_t>(guarded(f));
}

/// On the mapping, or on the one copy that this handle makes of a misaligned tensor.
Tensor kept_tensor(lcSafetensors& handle, const char* name) {
  {
    const std::lock_guard lock(open_files().mutex);
    const auto at = handle.copies.find(std::string_view(name));
    if (at != handle.copies.end()) return at->second;
  }
  Tensor tensor = handle.file.tensor(name);
  if (tensor.view().data == handle.file.raw(name).view().data) return tensor;
  const std::lock_guard lock(open_files().mutex);
  return handle.copies.try_emplace(name, std::move(tensor)).first->second;
}

}  // namespace
}  // namespace lc::capi

LC_AT_LOAD(lc::capi::open_files())

using lc::capi::call;
using lc::capi::check_place;
using lc::capi::checked_text;
using lc::capi::find_file;

extern "C" {

lcError_t lcSafetensorsOpen(const char* path, lcSafetensors** file) {
  return call([&] {
    check_place("lcSafetensorsOpen", "file", file);
    const std::string name = checked_text("lcSafetensorsOpen", "path", path);
    const auto made = std::make_shared<lcSafetensors>(lcSafetensors{lc::SafetensorsFile(name), {}});
    const std::lock_guard lock(lc::capi::open_files().mutex);
    lc::capi::open_files().files.emplace(made.get(), made);
    *file = made.get();
  });
}

lcError_t lcSafetensorsClose(lcSafetensors* file) {
  return call([&] {
    if (file == nullptr) return;
    const auto kept = find_file("lcSafetensorsClose", file);  // unmapped after the lock is free
    const std::lock_guard lock(lc::capi::open_files().mutex);
    lc::capi::open_files().files.erase(file);
  });
}

lcError_t lcSafetensorsCount(lcSafetensors* file, int64_t* count) {
  return call([&] {
    const auto kept = find_file("lcSafetensorsCount", file);
    check_place("lcSafetensorsCount", "count", count);
    *count = static_cast<int64_t>(kept->file.entries().size());
  });
}

lcError_t lcSafetensorsName(lcSafetensors* file, int64_t index, const char** name) {
  return call([&] {
    const auto kept = find_file("lcSafetensorsName", file);
    check_place("lcSafetensorsName", "name", name);
    const auto entries = kept->file.entries();
    if (index < 0 || index >= static_cast<int64_t>(entries.size()))
      lc::throw_arg("lcSafetensorsName", "index", lc::cat("an index in [0, ", entries.size(), ")"),
                    lc::cat(index));
    *name = entries[static_cast<size_t>(index)].name.c_str();
  });
}

lcError_t lcSafetensorsInfo(lcSafetensors* file, const char* name, lcSafetensorsEntry* entry) {
  return call([&] {
    const auto kept = find_file("lcSafetensorsInfo", file);
    check_place("lcSafetensorsInfo", "entry", entry);
    const auto& e = kept->file.entry(checked_text("lcSafetensorsInfo", "name", name));
    const void* data = kept->file.raw(name).view().data;
    *entry = {e.name.c_str(),
              e.dtype_name,
              static_cast<lcDType>(e.dtype),
              static_cast<int>(e.shape.size()),
              e.shape.data(),
              data,
              e.nbytes};
  });
}

lcError_t lcSafetensorsTensor(lcSafetensors* file, const char* name, lcArray* array) {
  return call([&] {
    const auto kept = find_file("lcSafetensorsTensor", file);
    check_place("lcSafetensorsTensor", "array", array);
    const lc::Tensor tensor =
        lc::capi::kept_tensor(*kept, checked_text("lcSafetensorsTensor", "name", name));
    *array = lcArrayOf(tensor.view().data, static_cast<lcDType>(tensor.dtype()), tensor.rank(),
                       tensor.shape().begin());
  });
}

lcError_t lcSafetensorsMetadata(lcSafetensors* file, const char* key, const char** value) {
  return call([&] {
    const auto kept = find_file("lcSafetensorsMetadata", file);
    check_place("lcSafetensorsMetadata", "value", value);
    const std::string_view wanted = checked_text("lcSafetensorsMetadata", "key", key);
    const auto all = kept->file.metadata();
    const auto at = std::find_if(all.begin(), all.end(),
                                 [&](const auto& pair) { return pair.first == wanted; });
    *value = at == all.end() ? nullptr : at->second.c_str();
  });
}

}  // extern "C"
