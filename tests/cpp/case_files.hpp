// What the tests that go through tests/cases share.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "runtime/case.hpp"

namespace lc {

inline std::vector<std::string> case_files() {
  std::vector<std::string> paths;
  for (const auto& entry : std::filesystem::directory_iterator(LC_SOURCE_DIR "/tests/cases"))
    if (entry.path().extension() == ".txt") paths.push_back(entry.path().string());
  std::sort(paths.begin(), paths.end());
  return paths;
}

inline std::string file_stem(const testing::TestParamInfo<std::string>& file) {
  return std::filesystem::path(file.param).stem().string();
}

/// Every device that computes, here or by falling back to the CPU.
inline std::vector<Device> computing_devices() {
  return {Device{DeviceKind::kCpu, 0}, Device{DeviceKind::kCuda, 0}, Device{DeviceKind::kMetal, 0}};
}

/// A file's smoke and full lines, also in the other float dtypes. For a device that is not here,
/// whose calls run as the CPU's do, only the smoke lines.
inline std::vector<Case> case_lines(const std::string& path, Device device = {}) {
  std::vector<Case> all = read_cases(path, "smoke");
  if (device_available(device.kind))
    for (Case& c : read_cases(path, "full")) all.push_back(std::move(c));
  return with_other_floats(all);
}

/// A call of the line's shapes without memory: for infer(), plan() and what they refuse.
inline OpCall shapes_of(const Case& c) {
  OpCall call(*c.op);
  call.n_in = 0;
  for (const CaseInput& in : c.inputs)
    call.push_input(in.present() ? View(nullptr, in.dtype, in.shape) : View{});
  for (size_t k = 0; k < c.attrs.size(); ++k) call.attr[k] = c.attrs[k];
  return call;
}

}  // namespace lc
