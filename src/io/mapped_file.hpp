// A regular file: read where it must be checked, mapped where it must not be copied.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace lc::io {

/// Memory of a mapping; unmapped when the last owner goes.
using Mapping = std::shared_ptr<char>;

class InputFile {
 public:
  /// Throws kInvalidValue where `path` is empty, missing, unreadable or no regular file.
  explicit InputFile(const std::string& path);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  [[nodiscard]] int64_t size() const noexcept { return size_; }  ///< bytes when it was opened
  /// Bytes [offset, offset + n). Throws kInvalidValue where the file ends before or cannot be read.
  [[nodiscard]] std::string read(int64_t offset, int64_t n) const;
  /// All size() > 0 bytes, private and copy-on-write; outlives this object. Throws kInvalidValue,
  /// or kOutOfMemory where the address space is used up.
  [[nodiscard]] Mapping map() const;

 private:
  std::string path_;
  int fd_ = -1;
  int64_t size_ = 0;
};

}  // namespace lc::io
