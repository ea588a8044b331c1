// Safetensors files through the C API: the same hostile files, handles, arrays for ops.
#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

#include "lightning_core/lightning_core.h"
#include "safetensors_files.hpp"

namespace {

using lc::testing_files::entry;
using lc::testing_files::file_bytes;
using lc::testing_files::hostile_files;
using lc::testing_files::HostileFile;
using lc::testing_files::TempFile;

std::string message() { return lcLastErrorMessage(); }
bool says(const std::string& part) { return message().find(part) != std::string::npos; }

/// One tensor that is aligned, one that is not, and one of a dtype that ops do not take.
std::string mixed_file() {
  std::string header = "{\"__metadata__\":{\"format\":\"pt\"}," + entry("a", "F32", "2", "0,8") +
                       "," + entry("b", "F32", "2", "9,17") + "," +
                       entry("c", "F8_E4M3", "1", "8,9") + "}";
  header.append((8 - header.size() % 8) % 8, ' ');
  const float values[] = {1, 2, 3, 4};
  const auto* bytes = reinterpret_cast<const char*>(values);
  return file_bytes(header, std::string(bytes, 8) + "x" + std::string(bytes + 8, 8));
}

class CApiSafetensors : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(lcSafetensorsOpen(file_.path().c_str(), &handle_), LC_SUCCESS) << message();
  }
  void TearDown() override { EXPECT_EQ(lcSafetensorsClose(handle_), LC_SUCCESS); }

  TempFile file_{mixed_file()};
  lcSafetensors* handle_ = nullptr;
};

TEST_F(CApiSafetensors, ListsTensorsAndMetadata) {
  int64_t count = -1;
  ASSERT_EQ(lcSafetensorsCount(handle_, &count), LC_SUCCESS);
  ASSERT_EQ(count, 3);
  const char* name = nullptr;
  for (int64_t i = 0; i < count; ++i) {
    ASSERT_EQ(lcSafetensorsName(handle_, i, &name), LC_SUCCESS);
    EXPECT_EQ(std::string(name), std::string(1, static_cast<char>('a' + i)));
  }
  lcSafetensorsEntry e{};
  ASSERT_EQ(lcSafetensorsInfo(handle_, "b", &e), LC_SUCCESS);
  EXPECT_STREQ(e.name, "b");
  EXPECT_STREQ(e.dtype_name, "F32");
  EXPECT_EQ(e.dtype, LC_FLOAT32);
  ASSERT_EQ(e.ndim, 1);
  EXPECT_EQ(e.shape[0], 2);
  EXPECT_EQ(e.nbytes, 8);
  ASSERT_EQ(lcSafetensorsInfo(handle_, "c", &e), LC_SUCCESS);
  EXPECT_STREQ(e.dtype_name, "F8_E4M3");
  EXPECT_EQ(e.dtype, LC_DTYPE_NONE);
  EXPECT_EQ(*static_cast<const char*>(e.data), 'x');
  const char* value = "untouched";
  ASSERT_EQ(lcSafetensorsMetadata(handle_, "format", &value), LC_SUCCESS);
  EXPECT_STREQ(value, "pt");
  ASSERT_EQ(lcSafetensorsMetadata(handle_, "forma", &value), LC_SUCCESS);
  EXPECT_EQ(value, nullptr);
}

TEST_F(CApiSafetensors, TensorsGoIntoOps) {
  lcArray in[2], again;
  lcSafetensorsEntry e{};
  ASSERT_EQ(lcSafetensorsTensor(handle_, "a", &in[0]), LC_SUCCESS) << message();
  ASSERT_EQ(lcSafetensorsTensor(handle_, "b", &in[1]), LC_SUCCESS) << message();
  ASSERT_EQ(lcSafetensorsInfo(handle_, "a", &e), LC_SUCCESS);
  EXPECT_EQ(in[0].data, e.data);
  ASSERT_EQ(lcSafetensorsInfo(handle_, "b", &e), LC_SUCCESS);
  EXPECT_NE(in[1].data, e.data);  // a copy, kept with the file
  ASSERT_EQ(lcSafetensorsTensor(handle_, "b", &again), LC_SUCCESS);
  EXPECT_EQ(in[1].data, again.data);
  float sum[2] = {};
  const int64_t shape[] = {2};
  lcArray out = lcArrayOf(sum, LC_FLOAT32, 1, shape);
  ASSERT_EQ(lcOpCall("add", in, 2, nullptr, 0, &out, 1, nullptr), LC_SUCCESS) << message();
  EXPECT_EQ(sum[0], 4);
  EXPECT_EQ(sum[1], 6);
}

TEST_F(CApiSafetensors, BadArgumentsChangeNothing) {
  int64_t count = -5;
  const char* name = "kept";
  lcArray array{};
  array.ndim = 77;
  lcSafetensorsEntry e{};
  e.ndim = 77;
  EXPECT_EQ(lcSafetensorsTensor(handle_, "c", &array), LC_NOT_SUPPORTED);
  EXPECT_TRUE(says("F8_E4M3") && says(file_.name())) << message();
  EXPECT_EQ(lcSafetensorsTensor(handle_, "d", &array), LC_INVALID_VALUE);
  EXPECT_TRUE(says("\"d\"") && says(file_.name())) << message();
  EXPECT_EQ(lcSafetensorsInfo(handle_, "d", &e), LC_INVALID_VALUE);
  for (const int64_t index : {int64_t{-1}, int64_t{3}, INT64_MAX, INT64_MIN})
    EXPECT_EQ(lcSafetensorsName(handle_, index, &name), LC_INVALID_VALUE);
  EXPECT_TRUE(says("[0, 3)")) << message();
  EXPECT_EQ(lcSafetensorsCount(nullptr, &count), LC_INVALID_VALUE);
  EXPECT_TRUE(says("[lcSafetensorsCount] file")) << message();
  auto* made_up = reinterpret_cast<lcSafetensors*>(&array);
  EXPECT_EQ(lcSafetensorsCount(made_up, &count), LC_INVALID_VALUE);
  EXPECT_EQ(lcSafetensorsName(made_up, 0, &name), LC_INVALID_VALUE);
  EXPECT_EQ(lcSafetensorsInfo(made_up, "a", &e), LC_INVALID_VALUE);
  EXPECT_EQ(lcSafetensorsTensor(made_up, "a", &array), LC_INVALID_VALUE);
  EXPECT_EQ(lcSafetensorsMetadata(made_up, "a", &name), LC_INVALID_VALUE);
  EXPECT_EQ(lcSafetensorsClose(made_up), LC_INVALID_VALUE);
  EXPECT_EQ(lcSafetensorsCount(handle_, nullptr), LC_INVALID_VALUE);
  EXPECT_EQ(lcSafetensorsName(handle_, 0, nullptr), LC_INVALID_VALUE);
  EXPECT_EQ(lcSafetensorsInfo(handle_, "a", nullptr), LC_INVALID_VALUE);
  EXPECT_EQ(lcSafetensorsInfo(handle_, nullptr, &e), LC_INVALID_VALUE);
  EXPECT_EQ(lcSafetensorsTensor(handle_, "a", nullptr), LC_INVALID_VALUE);
  EXPECT_EQ(lcSafetensorsTensor(handle_, nullptr, &array), LC_INVALID_VALUE);
  EXPECT_EQ(lcSafetensorsMetadata(handle_, nullptr, &name), LC_INVALID_VALUE);
  EXPECT_EQ(lcSafetensorsMetadata(handle_, "format", nullptr), LC_INVALID_VALUE);
  EXPECT_EQ(count, -5);
  EXPECT_STREQ(name, "kept");
  EXPECT_EQ(array.ndim, 77);
  EXPECT_EQ(e.ndim, 77);
}

TEST_F(CApiSafetensors, AClosedHandleIsRefused) {
  lcSafetensors* other = nullptr;
  ASSERT_EQ(lcSafetensorsOpen(file_.path().c_str(), &other), LC_SUCCESS);
  EXPECT_NE(other, handle_);
  EXPECT_EQ(lcSafetensorsClose(other), LC_SUCCESS);
  EXPECT_EQ(lcSafetensorsClose(other), LC_INVALID_VALUE);
  EXPECT_TRUE(says("not open")) << message();
  int64_t count = 0;
  EXPECT_EQ(lcSafetensorsCount(other, &count), LC_INVALID_VALUE);
  EXPECT_EQ(lcSafetensorsClose(nullptr), LC_SUCCESS);
}

TEST_F(CApiSafetensors, ThreadsGetTheSameCopy) {
  std::vector<lcArray> arrays(4);
  std::vector<std::thread> threads;
  for (lcArray& array : arrays)
    threads.emplace_back([&] { EXPECT_EQ(lcSafetensorsTensor(handle_, "b", &array), LC_SUCCESS); });
  for (std::thread& thread : threads) thread.join();
  for (const lcArray& array : arrays) EXPECT_EQ(array.data, arrays[0].data);
}

TEST(CApiSafetensorsOpen, BadPathsChangeNothing) {
  auto* const before = reinterpret_cast<lcSafetensors*>(&message);
  lcSafetensors* handle = before;
  EXPECT_EQ(lcSafetensorsOpen(nullptr, &handle), LC_INVALID_VALUE);
  EXPECT_EQ(lcSafetensorsOpen("", &handle), LC_INVALID_VALUE);
  EXPECT_EQ(lcSafetensorsOpen("/no/such/file", &handle), LC_INVALID_VALUE);
  EXPECT_TRUE(says("found none at /no/such/file")) << message();
  EXPECT_EQ(lcSafetensorsOpen("/", &handle), LC_INVALID_VALUE);
  EXPECT_TRUE(says("a directory")) << message();
  EXPECT_EQ(handle, before);
  EXPECT_EQ(lcSafetensorsOpen(TempFile(mixed_file()).path().c_str(), nullptr), LC_INVALID_VALUE);
}

class CApiSafetensorsHostile : public testing::TestWithParam<HostileFile> {};

TEST_P(CApiSafetensorsHostile, IsRefusedByNameAndReason) {
  const TempFile file(GetParam().bytes);
  lcSafetensors* handle = nullptr;
  EXPECT_EQ(lcSafetensorsOpen(file.path().c_str(), &handle), LC_INVALID_VALUE);
  EXPECT_EQ(handle, nullptr);
  EXPECT_TRUE(says(file.name()) && says(GetParam().says)) << message();
}

INSTANTIATE_TEST_SUITE_P(Files, CApiSafetensorsHostile, testing::ValuesIn(hostile_files()),
                         [](const auto& file) { return std::string(file.param.name); });

}  // namespace
