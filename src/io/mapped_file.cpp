#include "io/mapped_file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string_view>
#include <system_error>

#include "io/text.hpp"
#include "lightning_core/error.hpp"

namespace lc::io {
namespace {

std::string reason(int error) { return std::generic_category().message(error); }

[[noreturn]] void refuse_path(std::string_view found, std::string_view hint = {}) {
  throw_arg("safetensors", "path", "a safetensors file", found, hint);
}

}  // namespace

InputFile::InputFile(const std::string& path) : path_(path) {
  const std::string name = shown(path, path.npos);
  if (path.empty()) refuse_path("an empty path");
  if (path.find('\0') != path.npos) refuse_path(cat("a NUL in the path ", name));
  // O_NONBLOCK: opening a pipe that nobody writes to would wait for ever.
  do fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  while (fd_ < 0 && errno == EINTR);
  if (fd_ < 0) {
    const int error = errno;
    if (error == ENOENT || error == ENOTDIR) refuse_path(cat("none at ", name));
    refuse_path(cat("one that does not open (", reason(error), ") at ", name));
  }
  struct stat status{};
  const int error = ::fstat(fd_, &status) == 0 ? 0 : errno;
  if (error == 0 && S_ISREG(status.st_mode)) {
    size_ = static_cast<int64_t>(status.st_size);
    return;
  }
  ::close(fd_);  // the destructor of what was never made does not run
  if (error != 0) refuse_path(cat("one that cannot be examined (", reason(error), ") at ", name));
  if (S_ISDIR(status.st_mode)) refuse_path(cat("a directory at ", name), "name a file in it");
  refuse_path(cat("no regular file at ", name));
}

InputFile::~InputFile() { ::close(fd_); }

std::string InputFile::read(int64_t offset, int64_t n) const {
  std::string bytes(static_cast<size_t>(n), '\0');
  int64_t done = 0;
  while (done < n) {
    const ssize_t got =
        ::pread(fd_, bytes.data() + done, static_cast<size_t>(n - done), offset + done);
    if (got < 0 && errno == EINTR) continue;
    const std::string where = cat(" at byte ", offset + done);
    if (got < 0) refuse_file(path_, "bytes that can be read", cat(reason(errno), where));
    if (got == 0) refuse_file(path_, cat(size_, " bytes"), cat("the end", where));
    done += got;
  }
  return bytes;
}

Mapping InputFile::map() const {
  const auto bytes = static_cast<size_t>(size_);
  // Writable, because a Tensor has no read-only form and a store to a read-only page would end the
  // process. Private: the pages written become this process's own, and the file stays as it is.
  int flags = MAP_PRIVATE;
#ifdef MAP_NORESERVE
  flags |= MAP_NORESERVE;  // else the kernel may refuse a file larger than memory
#endif
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags, fd_, 0);
  if (memory == MAP_FAILED) {
    const int error = errno;
    throw_arg(
        error == ENOMEM || error == EAGAIN ? ErrorCode::kOutOfMemory : ErrorCode::kInvalidValue,
        "safetensors", "path", "a file that can be mapped",
        cat(reason(error), " for the ", size_, " bytes of ", shown(path_, path_.npos)));
  }
  return Mapping(static_cast<char*>(memory), [bytes](char* p) { ::munmap(p, bytes); });
}

}  // namespace lc::io
