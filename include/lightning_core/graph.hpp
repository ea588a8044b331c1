// The name the reference gave this header.
#pragma once

#include "lightning_core/core/graph.hpp"
#include "lightning_core/namespace_alias.hpp"
