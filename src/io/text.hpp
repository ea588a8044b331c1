// Text from files that nobody vouches for: well-formed UTF-8, and how it is shown in messages.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace lc::io {

/// Bytes of the UTF-8 sequence that starts at text[at]; 0 where it is ill formed: overlong, cut
/// off, a surrogate, past U+10FFFF.
[[nodiscard]] size_t utf8_length(std::string_view text, size_t at) noexcept;

/// `code_point` is a Unicode scalar value.
void append_utf8(std::string& text, uint32_t code_point);

/// `text` as UTF-8 without control characters, other bytes as \xNN, cut after about `most` bytes.
[[nodiscard]] std::string shown(std::string_view text, size_t most = 80);

/// Throws kInvalidValue: "[safetensors] path: expected E, found F in PATH; ...".
[[noreturn]] void refuse_file(std::string_view path, std::string_view expected,
                              std::string_view found);

}  // namespace lc::io
