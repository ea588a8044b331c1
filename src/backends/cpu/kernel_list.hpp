// Registration of CPU kernels: kernels/foo.cpp defines add_kernels_foo(); CMake lists the files in
// kernels_cpu.inc. Called once the instruction set is chosen, so HWY_DYNAMIC_POINTER in it returns
// the code of that set.
#pragma once

#include <vector>

#include "lightning_core/kernel.hpp"

namespace lc::cpu {

using KernelList = std::vector<KernelDef>;

#define LC_KERNEL_FILE(file) void add_kernels_##file(KernelList& kernels);
#include "kernels_cpu.inc"
#undef LC_KERNEL_FILE

}  // namespace lc::cpu

/// Head of a kernel file's registration function: LC_KERNELS(matmul) { kernels.push_back(...); }
/// The order of the entries of an op is the order in which the planner tries them.
#define LC_KERNELS(file) void lc::cpu::add_kernels_##file(lc::cpu::KernelList& kernels)
