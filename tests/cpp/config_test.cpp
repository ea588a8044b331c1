#include "runtime/config.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string>

#include "lightning_core/lightning_core.h"
#include "lightning_core/lightning_core.hpp"

namespace lc {
namespace {

class Config : public testing::Test {
 protected:
  void TearDown() override {
    unsetenv("LC_STRICT");
    unsetenv("LC_NUM_THREADS");
    unsetenv("LC_DEVICE");
    reload_config();
  }
};

std::string error_of(const char* name, const char* value) {
  try {
    set_config(name, value);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kInvalidValue);
    return e.what();
  }
  return "";
}

TEST_F(Config, TableIsSortedAndDocumented) {
  const auto table = config_table();
  for (size_t i = 0; i < table.size(); ++i) {
    EXPECT_GT(std::strlen(table[i].doc), 10u) << table[i].name;
    if (i > 0) {
      EXPECT_LT(std::strcmp(table[i - 1].name, table[i].name), 0) << table[i].name;
    }
  }
}

TEST_F(Config, ZeroAndWordsMeanOff) {
  for (const char* off : {"0", "false", "off", "no"}) {
    setenv("LC_STRICT", off, 1);
    reload_config();
    EXPECT_FALSE(config_bool("LC_STRICT")) << off;
  }
  for (const char* on : {"1", "true", "on", "yes"}) {
    setenv("LC_STRICT", on, 1);
    reload_config();
    EXPECT_TRUE(config_bool("LC_STRICT")) << on;
  }
  setenv("LC_STRICT", "", 1);
  reload_config();
  EXPECT_FALSE(config_bool("LC_STRICT"));
}

TEST_F(Config, BadValuesNameVariableAndValue) {
  for (const auto& [name, value] : {std::pair{"LC_NUM_THREADS", "two"},
                                    {"LC_NUM_THREADS", "-1"},
                                    {"LC_NUM_THREADS", "99999"},
                                    {"LC_NUM_THREADS", "4x"},
                                    {"LC_MAX_ISA", "sse9"},
                                    {"LC_DEVICE", "tpu"},
                                    {"LC_STRICT", "maybe"}}) {
    const std::string message = error_of(name, value);
    EXPECT_NE(message.find(name), std::string::npos) << value << ": " << message;
    EXPECT_NE(message.find(value), std::string::npos) << value << ": " << message;
  }
  EXPECT_THROW((void)config_int("LC_NO_SUCH_VARIABLE"), Error);
  setenv("LC_NUM_THREADS", "many", 1);
  reload_config();
  EXPECT_THROW((void)config_int("LC_NUM_THREADS"), Error);
}

TEST_F(Config, ChangesRaiseTheEpochAndReachTheDevice) {
  const uint32_t before = config_epoch();
  set_config("LC_DEVICE", "null");
  EXPECT_NE(config_epoch(), before);
  EXPECT_EQ(preferred_device().kind, DeviceKind::kNull);
  reload_config();
  EXPECT_NE(preferred_device().kind, DeviceKind::kNull);
}

struct BadValue {
  const char* name;
  const char* value;
};
constexpr BadValue kBadValues[] = {
    {"LC_MAX_ISA", "sse9"},
    {"LC_NUM_THREADS", "two"},
    {"LC_SPIN_US", "901"},
    {"LC_DEVICE", "tpu"},
    {"LC_PLAN_CACHE_ENTRIES", "0"},
    {"LC_MEMORY_CACHE_MB", "much"},
    {"LC_STRICT", "maybe"},
    {"LC_TEST_FAIL_ALLOC_ABOVE", "1e9"},
    {"LC_TRACE", "/no/such/folder/trace.txt"},
};

// The first call says which variable is wrong, by every surface, and writes nothing.
TEST_F(Config, BadEnvironmentIsAnErrorOfTheFirstCall) {
  const float a[] = {1, 2, 3, 4};
  float out[4];
  const int64_t shape[] = {2, 2};
  const Tensor x = Tensor::from(std::span<const float>(a), {2, 2});
  const lcArray in[] = {lcArrayOf(const_cast<float*>(a), LC_FLOAT32, 2, shape),
                        lcArrayOf(const_cast<float*>(a), LC_FLOAT32, 2, shape)};
  lcArray c = lcArrayOf(out, LC_FLOAT32, 2, shape);
  const auto from_cpp = [&] {
    const Tensor y = Tensor::wrap(View(out, DType::kFloat32, {2, 2}));
    matmul_into(x, x, y);
  };
  const auto from_c = [&] { return lcOpCall("matmul", in, 2, nullptr, 0, &c, 1, nullptr); };
  namespace ref = lightning_core;
  const auto from_reference = [&] {
    return ref::ops::matMul<float>(a, a, out, 2, 2, 2, ref::runtime::Device::kMetal);
  };
  for (const auto& [name, value] : kBadValues) {
    SCOPED_TRACE(cat(name, "=", value));
    const auto says = [n = name, v = value](const std::string& message) {
      EXPECT_NE(message.find(cat("[config] ", n, ": expected ")), std::string::npos) << message;
      EXPECT_NE(message.find(v), std::string::npos) << message;
    };
    std::fill(std::begin(out), std::end(out), 7.0f);
    setenv(name, value, 1);
    reload_config();
    try {
      from_cpp();
      ADD_FAILURE() << "C++: no error";
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::kInvalidValue);
      says(e.what());
    }
    reload_config();
    EXPECT_EQ(from_c(), LC_INVALID_VALUE);
    says(lcLastErrorMessage());
    reload_config();
    // The reference's functions name their device.
    if (std::string_view(name) != "LC_DEVICE") {
      EXPECT_EQ(from_reference(), ref::runtime::Status::kInvalidValue);
      says(ref::runtime::lastErrorMessage());
    }
    for (const float v : out) EXPECT_EQ(v, 7.0f);
    unsetenv(name);
    reload_config();
    EXPECT_NO_THROW(from_cpp());
    EXPECT_EQ(from_c(), LC_SUCCESS) << lcLastErrorMessage();
    EXPECT_EQ(from_reference(), ref::runtime::Status::kSuccess);
  }
}

TEST(Devices, UnknownWordsAndAbsentDevicesAreRefused) {
  for (const char* word : {"CPU", "gpu", "", "metal "})
    EXPECT_THROW((void)parse_device(word), Error);
  for (const DeviceKind kind : {DeviceKind::kCuda, DeviceKind::kMetal})
    if (!device_available(kind)) {
      EXPECT_THROW((void)device_info(Device{kind, 0}), Error);
    }
  EXPECT_GE(device_info(Device{}).threads, 1);
}

}  // namespace
}  // namespace lc
