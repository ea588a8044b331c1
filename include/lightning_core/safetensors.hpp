// Safetensors files: the header is checked whole, the data is mapped and never copied into place.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lightning_core/tensor.hpp"

namespace lc {

/// One tensor as the header describes it.
struct SafetensorsEntry {
  std::string name;             ///< UTF-8 without NUL; may be empty
  const char* dtype_name = "";  ///< the format's word: "F32", "BF16", "F8_E4M3"
  DType dtype = DType::kNone;   ///< kNone where the runtime lacks it
  std::vector<int64_t> shape;   ///< at most 64 extents
  int64_t offset = 0;           ///< of the first byte, counted from the start of the file
  int64_t nbytes = 0;           ///< exactly dtype times shape
};

/// An open file: names, dtypes, shapes, metadata, and tensors on its mapping. A value: copies share
/// the mapping, which lives until the last copy and the last Tensor from it are gone. Every member
/// is safe from several threads.
///
///   const SafetensorsFile file("model.safetensors");
///   const Tensor weight = file.tensor("encoder.weight");
///
/// The file must not be cut short while it is mapped: reading a page that is gone is SIGBUS, as
/// with every mapping. Replacing it by rename, as downloaders do, is safe.
class SafetensorsFile {
 public:
  /// Longest header, the format's own limit.
  static constexpr int64_t kMaxHeaderBytes = 100'000'000;

  /// Opens `path` and checks the whole header: strict UTF-8 JSON with every key once, dtypes of the
  /// format, byte ranges that lie in the data, match dtype times shape and tile it without overlap
  /// or hole. A tensor has at most 2^60 bytes. The data itself is not read. Throws kInvalidValue
  /// naming the file and what is wrong with it; kOutOfMemory where it cannot be mapped.
  explicit SafetensorsFile(const std::string& path);

  [[nodiscard]] const std::string& path() const noexcept;
  /// Every tensor, sorted by the bytes of its name. Valid as long as a copy of this object.
  [[nodiscard]] std::span<const SafetensorsEntry> entries() const noexcept;
  /// The header's `__metadata__`, sorted by key; empty where there is none.
  [[nodiscard]] std::span<const std::pair<std::string, std::string>> metadata() const noexcept;
  /// The entry of a name; null where the file has none.
  [[nodiscard]] const SafetensorsEntry* find(std::string_view name) const noexcept;
  /// As find(), but throws kInvalidValue for a name the file lacks.
  [[nodiscard]] const SafetensorsEntry& entry(std::string_view name) const;

  /// The tensor `name`: row-major, on the mapping, which it keeps alive. Where the file puts it at
  /// an address that is no multiple of its element's size, an aligned copy, a new one each time.
  /// A Tensor has no read-only form, so the mapping is private and copy-on-write: the file never
  /// changes, and what is written shows in every Tensor of this open file. Throws kInvalidValue for
  /// an unknown name, kNotSupported for a dtype the runtime lacks or more than kMaxRank dimensions.
  [[nodiscard]] Tensor tensor(std::string_view name) const;
  /// The bytes of `name`, uint8 [nbytes], little-endian, on the mapping and perhaps misaligned: for
  /// dtypes that tensor() refuses. Throws kInvalidValue for an unknown name.
  [[nodiscard]] Tensor raw(std::string_view name) const;

 private:
  struct Impl;
  std::shared_ptr<const Impl> impl_;
};

}  // namespace lc
