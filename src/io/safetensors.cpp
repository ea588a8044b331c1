#include "lightning_core/safetensors.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

#include "io/json_reader.hpp"
#include "io/mapped_file.hpp"
#include "io/text.hpp"

namespace lc {
namespace {

static_assert(std::endian::native == std::endian::little, "the format's data is little-endian");

using io::refuse_file;
using io::shown;

using Metadata = std::vector<std::pair<std::string, std::string>>;

struct FormatDType {
  const char* name;
  int bits;
  DType dtype;
};
/// The format's dtypes, as of the reference implementation's version 0.8.
constexpr FormatDType kFormatDTypes[] = {
    {"BOOL", 8, DType::kBool},        {"F4", 4, DType::kNone},
    {"F6_E2M3", 6, DType::kNone},     {"F6_E3M2", 6, DType::kNone},
    {"U8", 8, DType::kUInt8},         {"I8", 8, DType::kInt8},
    {"F8_E5M2", 8, DType::kNone},     {"F8_E4M3", 8, DType::kNone},
    {"F8_E8M0", 8, DType::kNone},     {"F8_E4M3FNUZ", 8, DType::kNone},
    {"F8_E5M2FNUZ", 8, DType::kNone}, {"I16", 16, DType::kNone},
    {"U16", 16, DType::kNone},        {"F16", 16, DType::kFloat16},
    {"BF16", 16, DType::kBFloat16},   {"I32", 32, DType::kInt32},
    {"U32", 32, DType::kNone},        {"F32", 32, DType::kFloat32},
    {"C64", 64, DType::kNone},        {"F64", 64, DType::kFloat64},
    {"I64", 64, DType::kInt64},       {"U64", 64, DType::kNone},
};

/// Far above any model's tensors; bounds what a hostile header makes us keep.
constexpr size_t kMaxEntryRank = 64;

std::string quoted(std::string_view name) { return cat('"', shown(name), '"'); }

/// The header's description of one tensor. Refuses what is wrong with it alone.
class EntryReader {
 public:
  EntryReader(const std::string& path, int64_t data_start, int64_t data_bytes)
      : path_(path), data_start_(data_start), data_bytes_(data_bytes) {}

  [[nodiscard]] SafetensorsEntry read(io::JsonReader& json, std::string name) const {
    SafetensorsEntry entry;
    entry.name = std::move(name);
    int bits = 0;
    bool has_shape = false;
    std::vector<int64_t> range;
    json.object([&](const std::string& key) {
      const auto once = [&](bool given) {
        if (given) refuse(entry, cat(key, " once"), cat("it twice"));
      };
      if (key == "dtype") {
        once(bits != 0);
        bits = read_dtype(json, entry);
      } else if (key == "shape") {
        once(has_shape);
        has_shape = true;
        json.array([&] {
          if (entry.shape.size() == kMaxEntryRank)
            json.fail(cat("at most ", kMaxEntryRank, " extents"));
          entry.shape.push_back(json.integer());
        });
      } else if (key == "data_offsets") {
        once(!range.empty());
        json.array([&] {
          if (range.size() == 2) json.fail("two data_offsets");
          range.push_back(json.integer());
        });
        if (range.size() != 2) json.fail("two data_offsets before this byte");
      } else {
        refuse(entry, "dtype, shape and data_offsets", cat("the key ", quoted(key)));
      }
    });
    if (bits == 0 || !has_shape || range.empty())
      refuse(entry, "dtype, shape and data_offsets",
             cat("no ", bits == 0    ? "dtype"
                        : !has_shape ? "shape"
                                     : "data_offsets"));
    place(entry, bits, range[0], range[1]);
    return entry;
  }

 private:
  [[noreturn]] void refuse(const SafetensorsEntry& entry, std::string_view expected,
                           std::string_view found) const {
    refuse_file(path_, expected, cat(found, " for tensor ", quoted(entry.name)));
  }

  int read_dtype(io::JsonReader& json, SafetensorsEntry& entry) const {
    const std::string word = json.string();
    for (const FormatDType& row : kFormatDTypes) {
      if (word != row.name) continue;
      entry.dtype_name = row.name;
      entry.dtype = row.dtype;
      return row.bits;
    }
    std::string names;
    for (const FormatDType& row : kFormatDTypes) names += cat(names.empty() ? "" : ", ", row.name);
    refuse(entry, cat("a dtype of ", names), quoted(word));
  }

  void place(SafetensorsEntry& entry, int bits, int64_t begin, int64_t end) const {
    const std::string range = cat("data_offsets ", begin, " to ", end);
    if (begin > end) refuse(entry, "data_offsets that do not fall", range);
    if (end > data_bytes_)
      refuse(entry, cat("data_offsets within ", data_bytes_, " bytes of data"), range);
    // Extents of an empty shape count as 1 here, so that no product of them can overflow later.
    int64_t total = bits;
    bool empty = false;
    for (const int64_t extent : entry.shape) {
      empty = empty || extent == 0;
      if (__builtin_mul_overflow(total, std::max<int64_t>(extent, 1), &total))
        refuse(entry, "a shape of at most 2^60 bytes", cat("extent ", extent));
    }
    if (empty) total = 0;
    if (total % 8 != 0) refuse(entry, "whole bytes", cat(total, " bits of ", entry.dtype_name));
    if (end - begin != total / 8)
      refuse(entry, cat(total / 8, " bytes for its shape of ", entry.dtype_name), range);
    entry.offset = data_start_ + begin;
    entry.nbytes = end - begin;
  }

  const std::string& path_;
  int64_t data_start_;
  int64_t data_bytes_;
};

Metadata read_metadata(io::JsonReader& json) {
  Metadata metadata;
  json.object([&](std::string key) {
    std::string value = json.string();
    metadata.emplace_back(std::move(key), std::move(value));
  });
  return metadata;
}

/// Sorts by `name_of`; refuses one that is there twice.
template <typename T, typename F>
void sort_by_name(std::vector<T>& items, const std::string& path, F&& name_of) {
  std::sort(items.begin(), items.end(),
            [&](const T& a, const T& b) { return name_of(a) < name_of(b); });
  const auto twice = std::adjacent_find(
      items.begin(), items.end(), [&](const T& a, const T& b) { return name_of(a) == name_of(b); });
  if (twice != items.end())
    refuse_file(path, "every key once", cat(quoted(name_of(*twice)), " twice"));
}

/// The tensors' byte ranges follow each other from the data's first byte to its last.
void check_tiling(const std::vector<SafetensorsEntry>& entries, const std::string& path,
                  int64_t data_start, int64_t file_bytes) {
  std::vector<const SafetensorsEntry*> order;
  order.reserve(entries.size());
  for (const SafetensorsEntry& entry : entries) order.push_back(&entry);
  std::sort(order.begin(), order.end(), [](const SafetensorsEntry* a, const SafetensorsEntry* b) {
    return a->offset != b->offset ? a->offset < b->offset : a->nbytes < b->nbytes;
  });
  int64_t next = data_start;
  for (const SafetensorsEntry* entry : order) {
    if (entry->offset != next)
      refuse_file(path, cat("data without ", entry->offset < next ? "overlaps" : "holes"),
                  cat("tensor ", quoted(entry->name), " at byte ", entry->offset - data_start,
                      " of the data, where ", next - data_start, " bytes were taken"));
    next += entry->nbytes;
  }
  if (next != file_bytes)
    refuse_file(path, cat(next - data_start, " bytes of data, as the tensors have"),
                cat(file_bytes - data_start));
}

}  // namespace

struct SafetensorsFile::Impl {
  std::string path;
  std::vector<SafetensorsEntry> entries;
  Metadata metadata;
  io::Mapping mapping;
};

SafetensorsFile::SafetensorsFile(const std::string& path) {
  constexpr int64_t kLengthBytes = 8;
  const io::InputFile file(path);
  if (file.size() < kLengthBytes)
    refuse_file(path, "at least 8 bytes, the header's length", cat(file.size(), " bytes"));
  uint64_t length = 0;
  std::memcpy(&length, file.read(0, kLengthBytes).data(), sizeof length);
  if (length > static_cast<uint64_t>(kMaxHeaderBytes))
    refuse_file(path, cat("a header of at most ", kMaxHeaderBytes, " bytes"),
                cat("a length of ", length));
  const auto header_bytes = static_cast<int64_t>(length);
  if (header_bytes > file.size() - kLengthBytes)
    refuse_file(path, cat("a header of ", length, " bytes"),
                cat(file.size() - kLengthBytes, " bytes after its length"));
  // Read, not mapped: if the file changes meanwhile, what was checked is still what is used.
  const std::string header = file.read(kLengthBytes, header_bytes);
  const int64_t data_start = kLengthBytes + header_bytes;

  auto impl = std::make_shared<Impl>();
  impl->path = path;
  io::JsonReader json(header, path);
  if (header.empty() || header[0] != '{') json.fail("'{', a header's first byte,");
  const EntryReader reader(path, data_start, file.size() - data_start);
  bool has_metadata = false;
  json.object([&](std::string name) {
    if (name != "__metadata__") {
      impl->entries.push_back(reader.read(json, std::move(name)));
      return;
    }
    if (has_metadata) refuse_file(path, "every key once", "\"__metadata__\" twice");
    has_metadata = true;
    impl->metadata = read_metadata(json);
  });
  json.finish();
  sort_by_name(impl->entries, path, [](const SafetensorsEntry& e) -> auto& { return e.name; });
  sort_by_name(impl->metadata, path, [](const auto& pair) -> auto& { return pair.first; });
  check_tiling(impl->entries, path, data_start, file.size());
  impl->mapping = file.map();
  impl_ = std::move(impl);
}

const std::string& SafetensorsFile::path() const noexcept { return impl_->path; }

std::span<const SafetensorsEntry> SafetensorsFile::entries() const noexcept {
  return impl_->entries;
}

std::span<const std::pair<std::string, std::string>> SafetensorsFile::metadata() const noexcept {
  return impl_->metadata;
}

const SafetensorsEntry* SafetensorsFile::find(std::string_view name) const noexcept {
  const auto& all = impl_->entries;
  const auto at = std::lower_bound(
      all.begin(), all.end(), name,
      [](const SafetensorsEntry& entry, std::string_view wanted) { return entry.name < wanted; });
  return at != all.end() && at->name == name ? &*at : nullptr;
}

const SafetensorsEntry& SafetensorsFile::entry(std::string_view name) const {
  const SafetensorsEntry* found = find(name);
  if (found == nullptr)
    throw_arg(
        "safetensors", "name",
        cat("one of the ", impl_->entries.size(), " tensors of ", shown(path(), std::string::npos)),
        quoted(name), "the file's entries list them");
  return *found;
}

Tensor SafetensorsFile::tensor(std::string_view name) const {
  const SafetensorsEntry& e = entry(name);
  const auto refuse = [&](std::string_view expected, std::string_view found) {
    throw_arg(ErrorCode::kNotSupported, "safetensors", "name", expected,
              cat(found, " for tensor ", quoted(e.name), " of ", shown(path(), std::string::npos)),
              "its raw bytes can be read");
  };
  if (e.dtype == DType::kNone)
    refuse(cat("a tensor of ", dtype_set_names((1u << kDTypes) - 2)), e.dtype_name);
  if (e.shape.size() > static_cast<size_t>(kMaxRank))
    refuse(cat("at most ", kMaxRank, " dimensions"), cat(e.shape.size()));
  const Shape shape{std::span<const int64_t>(e.shape)};
  char* data = impl_->mapping.get() + e.offset;
  if (e.offset % dtype_size(e.dtype) == 0)  // a mapping starts on a page
    return Tensor(Storage(impl_->mapping, data), View(data, e.dtype, shape));
  Tensor copy = Tensor::empty(shape, e.dtype);
  std::memcpy(copy.view().data, data, static_cast<size_t>(e.nbytes));
  return copy;
}

Tensor SafetensorsFile::raw(std::string_view name) const {
  const SafetensorsEntry& e = entry(name);
  char* data = impl_->mapping.get() + e.offset;
  return Tensor(Storage(impl_->mapping, data), View(data, DType::kUInt8, Shape{e.nbytes}));
}

}  // namespace lc
