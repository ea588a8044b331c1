// gtest's main, and one thing more: where LC_MAX_ISA names an instruction set that this machine
// lacks, it says so and exits with 77, which ctest counts as skipped.
#include <gtest/gtest.h>

#include <cstdio>

#include "lightning_core/device.hpp"
#include "lightning_core/error.hpp"

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  try {
    (void)lc::device_info(lc::Device{});
  } catch (const lc::Error& error) {
    if (error.code() != lc::ErrorCode::kNotSupported) throw;
    std::printf("skipped: %s\n", error.what());
    return 77;
  }
  return RUN_ALL_TESTS();
}
