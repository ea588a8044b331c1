// Registration of ops: src/ops/foo.cpp defines add_ops_foo(); CMake lists the files in ops.inc.
#pragma once

#include <vector>

#include "lightning_core/op_def.hpp"

namespace lc {

using OpList = std::vector<OpDef>;

}  // namespace lc

/// Head of an op file's registration function: LC_OPS(matmul) { ops.push_back(...); }
#define LC_OPS(file) void lc::ops_detail::add_ops_##file(lc::OpList& ops)
namespace lc::ops_detail {
#define LC_OP_FILE(file) void add_ops_##file(lc::OpList& ops);
#include "ops.inc"
#undef LC_OP_FILE
}  // namespace lc::ops_detail
