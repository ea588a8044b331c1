#include "runtime/config.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>

#include "lightning_core/device.hpp"
#include "lightning_core/error.hpp"

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
  EXPECT_EQ(preferred_device().kind, DeviceKind::kCpu);
}

TEST(Devices, UnknownWordsAndAbsentDevicesAreRefused) {
  for (const char* word : {"CPU", "gpu", "", "metal "})
    EXPECT_THROW((void)parse_device(word), Error);
  EXPECT_FALSE(device_available(DeviceKind::kCuda));
  EXPECT_THROW((void)device_info(Device{DeviceKind::kCuda, 0}), Error);
  EXPECT_GE(device_info(Device{}).threads, 1);
}

}  // namespace
}  // namespace lc
