// The name the reference gave this header.
#pragma once

#include "lightning_core/core/model_customization.hpp"
#include "lightning_core/namespace_alias.hpp"
