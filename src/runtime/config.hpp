// The table of environment variables, as the runtime sees it.
#pragma once

#include <cstdint>

#include "lightning_core/config.hpp"

namespace lc {

/// Raised by set_config() and reload_config(), and part of every plan key: a change of
/// configuration makes old plans unreachable.
[[nodiscard]] uint32_t config_epoch() noexcept;

}  // namespace lc
