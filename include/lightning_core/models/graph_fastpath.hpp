// The name the reference gave this header.
#pragma once

#include "lightning_core/core/models/graph_fastpath.hpp"
#include "lightning_core/namespace_alias.hpp"
