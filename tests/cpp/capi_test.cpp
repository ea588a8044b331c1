// The C API: ABI, every function with good and bad input, op calls against the C++ surface.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "lightning_core/dispatch.hpp"
#include "lightning_core/lightning_core.h"
#include "lightning_core/trace.hpp"

namespace {

lcArray array(const void* data, lcDType dtype, std::initializer_list<int64_t> shape) {
  return lcArrayOf(const_cast<void*>(data), dtype, static_cast<int>(shape.size()), shape.begin());
}
lcAttr attr_int(const char* name, int64_t i) {
  return {name, LC_ATTR_INT, i, 0, nullptr, 0, nullptr};
}
lcAttr attr_float(const char* name, double f) {
  return {name, LC_ATTR_FLOAT, 0, f, nullptr, 0, nullptr};
}
lcAttr attr_word(const char* name, const char* w) {
  return {name, LC_ATTR_WORD, 0, 0, nullptr, 0, w};
}
lcAttr attr_ints(const char* name, const std::vector<int64_t>& v) {
  return {name, LC_ATTR_INTS, 0, 0, v.data(), static_cast<int>(v.size()), nullptr};
}
std::string message() { return lcLastErrorMessage(); }
bool says(const std::string& part) { return message().find(part) != std::string::npos; }

std::string report(const char* kind) {
  size_t bytes = 0;
  EXPECT_EQ(lcReport(kind, nullptr, 0, &bytes), LC_SUCCESS) << kind << ": " << message();
  std::string text(bytes, 'x');
  EXPECT_EQ(lcReport(kind, text.data(), text.size(), nullptr), LC_SUCCESS)
      << kind << ": " << message();
  text.pop_back();
  return text;
}

/// Brackets and quotes that match: enough to know that a report is JSON at all.
bool balanced(const std::string& json) {
  std::string open;
  bool quoted = false;
  for (size_t i = 0; i < json.size(); ++i) {
    const char c = json[i];
    if (quoted) {
      if (c == '\\')
        ++i;
      else if (c == '"')
        quoted = false;
    } else if (c == '"') {
      quoted = true;
    } else if (c == '{' || c == '[') {
      open += c;
    } else if (c == '}' || c == ']') {
      if (open.empty() || open.back() != (c == '}' ? '{' : '[')) return false;
      open.pop_back();
    }
  }
  return open.empty() && !quoted && !json.empty();
}

TEST(CApi, Abi) {
  EXPECT_EQ(offsetof(lcBackendCapabilities, memory_model), 9 * sizeof(int));
  EXPECT_EQ(sizeof(lcBackendCapabilities), 10 * sizeof(int));
  EXPECT_EQ(offsetof(lcComputeInterfaceContract, driver_tag), 8u);
  EXPECT_EQ(offsetof(lcMemoryInterfaceContract, driver_tag), 16u);
  EXPECT_EQ(offsetof(lcSyncInterfaceContract, driver_tag), 16u);
  EXPECT_EQ(offsetof(lcProfilerInterfaceContract, trace_capacity), 16u);
  EXPECT_EQ(offsetof(lcBackendInterfaceContract, capabilities), 4u);
  EXPECT_EQ(LC_UNKNOWN, 6);
  EXPECT_EQ(LC_DEVICE_METAL, 2);
  EXPECT_EQ(LC_MEMCPY_DEVICE_TO_DEVICE, 3);
}

TEST(CApi, Version) {
  int major = -1, minor = -1, patch = -1;
  EXPECT_EQ(lcGetApiVersion(&major, &minor, &patch), LC_SUCCESS);
  EXPECT_EQ(lcGetApiVersion(nullptr, nullptr, nullptr), LC_SUCCESS);
  std::ostringstream text;
  text << major << "." << minor << "." << patch;
  EXPECT_EQ(text.str(), lcGetApiVersionString());
#ifdef LC_SOURCE_DIR
  std::ifstream file(LC_SOURCE_DIR "/CMakeLists.txt");
  const std::string cmake((std::istreambuf_iterator<char>(file)), {});
  EXPECT_NE(cmake.find("VERSION " + text.str()), std::string::npos)
      << "lightning_core.h and CMakeLists.txt differ";
#endif
}

TEST(CApi, Memory) {
  void* p = nullptr;
  EXPECT_EQ(lcMalloc(nullptr, 8), LC_INVALID_VALUE);
  EXPECT_EQ(lcMalloc(&p, 0), LC_INVALID_VALUE);
  EXPECT_TRUE(says("[malloc] size_bytes"));
  EXPECT_EQ(lcMalloc(&p, SIZE_MAX - 8), LC_OUT_OF_MEMORY);
  ASSERT_EQ(lcMalloc(&p, 100), LC_SUCCESS);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % 64, 0u);
  char in[100] = "text", out[100] = {};
  EXPECT_EQ(lcMemcpy(p, in, sizeof in, LC_MEMCPY_HOST_TO_DEVICE), LC_SUCCESS);
  EXPECT_EQ(lcMemcpy(out, p, sizeof out, LC_MEMCPY_DEVICE_TO_HOST), LC_SUCCESS);
  EXPECT_STREQ(out, "text");
  EXPECT_EQ(lcMemcpy(p, in, 101, LC_MEMCPY_HOST_TO_DEVICE), LC_INVALID_VALUE);
  EXPECT_EQ(lcMemcpy(out, p, 101, LC_MEMCPY_DEVICE_TO_HOST), LC_INVALID_VALUE);
  EXPECT_EQ(lcMemcpy(nullptr, in, 1, LC_MEMCPY_HOST_TO_HOST), LC_INVALID_VALUE);
  EXPECT_EQ(lcMemcpy(out, nullptr, 1, LC_MEMCPY_HOST_TO_HOST), LC_INVALID_VALUE);
  EXPECT_EQ(lcMemcpy(out, in, 1, static_cast<lcMemcpyKind>(4)), LC_INVALID_VALUE);
  EXPECT_EQ(lcMemcpy(out, in, 1, static_cast<lcMemcpyKind>(256)), LC_INVALID_VALUE);
  EXPECT_EQ(lcFree(p), LC_SUCCESS);
  EXPECT_EQ(lcFree(p), LC_INVALID_VALUE);
  EXPECT_EQ(lcFree(out), LC_INVALID_VALUE);
  EXPECT_EQ(lcFree(nullptr), LC_SUCCESS);
  EXPECT_EQ(lcDeviceSynchronize(), LC_SUCCESS);
}

TEST(CApi, DevicesAndContracts) {
  int count = -1;
  EXPECT_EQ(lcGetDeviceCount(&count), LC_SUCCESS);
  EXPECT_EQ(count, lcIsCudaAvailable() + lcIsMetalAvailable());
  EXPECT_EQ(lcGetDeviceCount(nullptr), LC_INVALID_VALUE);
  lcDeviceKind device = LC_DEVICE_METAL;
  EXPECT_EQ(lcGetPreferredDeviceForInference(&device), LC_SUCCESS);
  EXPECT_EQ(lcGetPreferredDeviceForTraining(&device), LC_SUCCESS);
  EXPECT_EQ(lcGetPreferredDeviceForTraining(nullptr), LC_INVALID_VALUE);
  EXPECT_EQ(lcGetPreferredDeviceForInference(nullptr), LC_INVALID_VALUE);
  EXPECT_STREQ(lcGetMemoryModelName(LC_MEMORY_HOST_MANAGED_COMPAT), "host-managed-compat");
  EXPECT_STREQ(lcGetMemoryModelName(static_cast<lcMemoryModel>(7)), "unknown");
  (void)lcGetMemoryModel();
  lcBackendCapabilities caps;
  EXPECT_EQ(lcGetBackendCapabilities(LC_DEVICE_CPU, &caps), LC_SUCCESS);
  EXPECT_TRUE(caps.built && caps.available && caps.compute_surface && !caps.memory_surface);
  EXPECT_EQ(lcGetBackendCapabilities(LC_DEVICE_CPU, nullptr), LC_INVALID_VALUE);
  EXPECT_EQ(lcGetBackendCapabilities(static_cast<lcDeviceKind>(3), &caps), LC_INVALID_VALUE);
  EXPECT_EQ(lcGetBackendCapabilities(static_cast<lcDeviceKind>(-1), &caps), LC_INVALID_VALUE);
  EXPECT_EQ(lcGetActiveBackendCapabilities(&caps), LC_SUCCESS);
  EXPECT_TRUE(caps.available);
  EXPECT_EQ(lcGetActiveBackendCapabilities(nullptr), LC_INVALID_VALUE);
  lcBackendInterfaceContract contract;
  EXPECT_EQ(lcGetBackendInterfaceContract(LC_DEVICE_METAL, &contract), LC_SUCCESS);
  EXPECT_STREQ(contract.sync.driver_tag, "metal.command_sync");
  EXPECT_EQ(contract.profiler.trace_capacity, 4096u);
  EXPECT_EQ(lcGetBackendInterfaceContract(LC_DEVICE_METAL, nullptr), LC_INVALID_VALUE);
  EXPECT_EQ(lcGetBackendInterfaceContract(static_cast<lcDeviceKind>(9), &contract),
            LC_INVALID_VALUE);
  EXPECT_EQ(lcGetActiveBackendInterfaceContract(&contract), LC_SUCCESS);
  EXPECT_EQ(lcGetActiveBackendInterfaceContract(nullptr), LC_INVALID_VALUE);
  EXPECT_NE(std::string(lcBackendName()), "");
  EXPECT_STREQ(lcGetErrorString(LC_OUT_OF_MEMORY), "out of memory");
  EXPECT_STREQ(lcGetErrorString(static_cast<lcError_t>(88)), "unknown error");
}

TEST(CApi, SyncPolicies) {
  const lcSyncPolicy before = lcGetDefaultSyncPolicy();
  EXPECT_EQ(lcSetDefaultSyncPolicy({LC_SYNC_NEVER, 1}), LC_SUCCESS);
  EXPECT_EQ(lcGetDefaultSyncPolicy().mode, LC_SYNC_NEVER);
  EXPECT_EQ(lcSetDefaultSyncPolicy({static_cast<lcSyncMode>(5), 0}), LC_INVALID_VALUE);
  EXPECT_EQ(lcGetDefaultSyncPolicy().trace_sync_boundary, 1);
  EXPECT_EQ(lcApplyDefaultSyncPolicy(), LC_SUCCESS);
  EXPECT_EQ(lcApplySyncPolicy({LC_SYNC_ALWAYS, 0}), LC_SUCCESS);
  EXPECT_EQ(lcApplySyncPolicy({static_cast<lcSyncMode>(5), 0}), LC_INVALID_VALUE);
  EXPECT_EQ(lcSetDefaultSyncPolicy(before), LC_SUCCESS);
}

TEST(CApiOps, Matmul) {
  const float a[] = {1, 2, 3, 4, 5, 6}, b[] = {7, 8, 9, 10, 11, 12}, bias[] = {-100, 1};
  float c[4] = {};
  lcArray in[] = {array(a, LC_FLOAT32, {2, 3}), array(b, LC_FLOAT32, {3, 2}),
                  array(bias, LC_FLOAT32, {2})};
  lcArray out = array(c, LC_FLOAT32, {2, 2});
  ASSERT_EQ(lcOpCall("matmul", in, 2, nullptr, 0, &out, 1, nullptr), LC_SUCCESS) << message();
  EXPECT_EQ(std::vector<float>(c, c + 4), (std::vector<float>{58, 64, 139, 154}));
  const lcAttr attrs[] = {attr_float("alpha", 0.5), attr_word("activation", "relu")};
  ASSERT_EQ(lcOpCall("matmul", in, 3, attrs, 2, &out, 1, nullptr), LC_SUCCESS) << message();
  EXPECT_EQ(std::vector<float>(c, c + 4), (std::vector<float>{0, 33, 0, 78}));
  const lcAttr alpha_as_int = attr_int("alpha", 2);
  ASSERT_EQ(lcOpCall("matmul", in, 2, &alpha_as_int, 1, &out, 1, nullptr), LC_SUCCESS);
  EXPECT_EQ(c[0], 116);
  // Strided in and out: b is a transposed and c is written by columns.
  const int64_t transposed[] = {1, 3};
  in[1] = array(a, LC_FLOAT32, {3, 2});
  in[1].strides = transposed;
  const int64_t columns[] = {1, 2};
  out.strides = columns;
  const lcAttr half = attr_float("alpha", 1);
  ASSERT_EQ(lcOpCall("matmul", in, 2, &half, 1, &out, 1, nullptr), LC_SUCCESS) << message();
  EXPECT_EQ(std::vector<float>(c, c + 4), (std::vector<float>{14, 32, 32, 77}));
}

TEST(CApiOps, AttributesOfEveryKind) {
  const float x[] = {1, 5, 2, 4, 3, 6};
  float y[6];
  int64_t index[2];
  const lcArray in = array(x, LC_FLOAT32, {2, 3});
  const std::vector<int64_t> one = {1}, shape = {3, -1}, none;
  lcArray out = array(index, LC_INT64, {2});
  lcAttr attrs[2] = {attr_ints("axis", one), attr_int("keepdims", 0)};
  ASSERT_EQ(lcOpCall("argmax", &in, 1, attrs, 2, &out, 1, nullptr), LC_SUCCESS) << message();
  EXPECT_EQ(index[0], 1);
  EXPECT_EQ(index[1], 2);
  attrs[0] = attr_int("axis", 1);
  ASSERT_EQ(lcOpCall("argmax", &in, 1, attrs, 1, &out, 1, nullptr), LC_SUCCESS) << message();
  attrs[0] = attr_ints("shape", shape);
  out = array(y, LC_FLOAT32, {3, 2});
  ASSERT_EQ(lcOpCall("reshape", &in, 1, attrs, 1, &out, 1, nullptr), LC_SUCCESS) << message();
  EXPECT_EQ(y[5], 6);
  double d[6];
  out = array(d, LC_FLOAT64, {2, 3});
  attrs[0] = attr_word("dtype", "float64");
  ASSERT_EQ(lcOpCall("cast", &in, 1, attrs, 1, &out, 1, nullptr), LC_SUCCESS) << message();
  EXPECT_EQ(d[1], 5);
  attrs[0] = attr_int("dtype", LC_FLOAT64);
  ASSERT_EQ(lcOpCall("cast", &in, 1, attrs, 1, &out, 1, nullptr), LC_SUCCESS) << message();
  // Variadic.
  float joined[12];
  const lcArray both[] = {in, in};
  out = array(joined, LC_FLOAT32, {4, 3});
  ASSERT_EQ(lcOpCall("concat", both, 2, nullptr, 0, &out, 1, nullptr), LC_SUCCESS) << message();
  EXPECT_EQ(joined[11], 6);
}

TEST(CApiOps, InferFillsTheOutputs) {
  lcArray in[3] = {array(nullptr, LC_FLOAT64, {5, 2, 3}), array(nullptr, LC_FLOAT64, {3, 4}), {}};
  lcArray out{};
  out.data = in;
  ASSERT_EQ(lcOpInfer("matmul", in, 3, nullptr, 0, &out, 1, nullptr), LC_SUCCESS) << message();
  EXPECT_EQ(out.dtype, LC_FLOAT64);
  EXPECT_EQ(out.ndim, 3);
  EXPECT_EQ(std::vector<int64_t>(out.shape, out.shape + 3), (std::vector<int64_t>{5, 2, 4}));
  EXPECT_EQ(out.data, in);
  EXPECT_EQ(lcOpInfer("matmul", in, 1, nullptr, 0, &out, 1, nullptr), LC_INVALID_TYPE);
  EXPECT_TRUE(says("[matmul] b")) << message();
  EXPECT_EQ(lcOpInfer("matmul", in, 2, nullptr, 0, nullptr, 1, nullptr), LC_INVALID_VALUE);
}

TEST(CApiOps, Options) {
  const float a[] = {1, 2};
  const double wide[] = {3, 4};
  float c[2] = {9, 9};
  const lcArray in[] = {array(a, LC_FLOAT32, {2}), array(wide, LC_FLOAT64, {2})};
  lcArray out = array(c, LC_FLOAT32, {2});
  lcCallOptions o;
  lcCallOptionsInit(&o);
  lcCallOptionsInit(nullptr);
  o.compute_dtype = LC_FLOAT32;
  ASSERT_EQ(lcOpCall("add", in, 2, nullptr, 0, &out, 1, &o), LC_SUCCESS) << message();
  EXPECT_EQ(c[1], 6);
  lcCallOptionsInit(&o);
  o.download = 0;
  const lcArray same[] = {in[0], in[0]};
  lcArray nowhere{};
  ASSERT_EQ(lcOpCall("add", same, 2, nullptr, 0, &nowhere, 1, &o), LC_SUCCESS) << message();
  ASSERT_EQ(lcOpCall("add", same, 2, nullptr, 0, &out, 1, &o), LC_SUCCESS) << message();
  EXPECT_EQ(c[1], 6);  // computed, not written
  lcCallOptionsInit(&o);
  o.upload = ~1u;
  const lcArray not_resident[] = {array(nullptr, LC_FLOAT32, {2}), in[0]};
  EXPECT_EQ(lcOpCall("add", not_resident, 2, nullptr, 0, &out, 1, &o), LC_INVALID_VALUE);
  EXPECT_TRUE(says("resident")) << message();
  lcCallOptionsInit(&o);
  o.device = "metal";
  EXPECT_EQ(lcOpCall("add", same, 2, nullptr, 0, &out, 1, &o), LC_SUCCESS) << message();
  o.strict = 1;
  EXPECT_EQ(lcOpCall("add", same, 2, nullptr, 0, &out, 1, &o),
            lcIsMetalAvailable() ? LC_SUCCESS : LC_NOT_SUPPORTED);
  lcCallOptionsInit(&o);
  o.device = "Metal";
  EXPECT_EQ(lcOpCall("add", same, 2, nullptr, 0, &out, 1, &o), LC_INVALID_VALUE);
  lcCallOptionsInit(&o);
  o.kernel = "no_such_kernel";
  EXPECT_EQ(lcOpCall("add", same, 2, nullptr, 0, &out, 1, &o), LC_INVALID_VALUE);
  o.kernel = "reference";
  EXPECT_EQ(lcOpCall("add", same, 2, nullptr, 0, &out, 1, &o), LC_SUCCESS) << message();
  EXPECT_EQ(c[1], 4);
  EXPECT_NE(report("explain_text").find("reference"), std::string::npos);
  o.struct_size = 0;
  EXPECT_EQ(lcOpCall("add", same, 2, nullptr, 0, &out, 1, &o), LC_INVALID_VALUE);
  lcCallOptionsInit(&o);
  o.sync = static_cast<lcSyncMode>(8);
  EXPECT_EQ(lcOpCall("add", same, 2, nullptr, 0, &out, 1, &o), LC_INVALID_VALUE);
  lcCallOptionsInit(&o);
  o.compute_dtype = static_cast<lcDType>(77);
  EXPECT_EQ(lcOpCall("add", same, 2, nullptr, 0, &out, 1, &o), LC_INVALID_TYPE);
}

TEST(CApiOps, BadCallsWriteNothing) {
  const float a[] = {1, 2, 3, 4};
  float c[4] = {7, 7, 7, 7};
  const lcArray good = array(a, LC_FLOAT32, {2, 2});
  lcArray out = array(c, LC_FLOAT32, {2, 2});
  const auto add = [&](lcArray x, lcArray y, lcArray o) {
    const lcArray in[] = {x, y};
    return lcOpCall("add", in, 2, nullptr, 0, &o, 1, nullptr);
  };
  EXPECT_EQ(lcOpCall(nullptr, &good, 1, nullptr, 0, &out, 1, nullptr), LC_INVALID_VALUE);
  EXPECT_EQ(lcOpCall("matmull", &good, 1, nullptr, 0, &out, 1, nullptr), LC_INVALID_VALUE);
  EXPECT_TRUE(says("matmul")) << message();
  EXPECT_EQ(lcOpCall("add", nullptr, 2, nullptr, 0, &out, 1, nullptr), LC_INVALID_VALUE);
  EXPECT_EQ(lcOpCall("add", &good, -1, nullptr, 0, &out, 1, nullptr), LC_INVALID_VALUE);
  EXPECT_EQ(lcOpCall("add", &good, 3, nullptr, 0, &out, 1, nullptr), LC_INVALID_VALUE);
  EXPECT_EQ(lcOpCall("add", &good, 1, nullptr, 0, &out, 1, nullptr), LC_INVALID_TYPE);
  EXPECT_EQ(lcOpCall("concat", &good, 0, nullptr, 0, &out, 1, nullptr), LC_INVALID_VALUE);
  EXPECT_EQ(lcOpCall("concat", &good, 1000, nullptr, 0, &out, 1, nullptr), LC_INVALID_VALUE);
  EXPECT_EQ(add(good, good, array(nullptr, LC_FLOAT32, {2, 2})), LC_INVALID_VALUE);
  EXPECT_EQ(add(good, good, {}), LC_INVALID_TYPE);
  EXPECT_EQ(add(good, good, array(c, LC_FLOAT64, {2, 2})), LC_INVALID_VALUE);
  EXPECT_EQ(add(good, good, array(c, LC_FLOAT32, {4})), LC_INVALID_VALUE);
  EXPECT_EQ(add(good, array(a, LC_FLOAT32, {3}), out), LC_INVALID_VALUE);
  EXPECT_EQ(add(good, array(a, LC_INT32, {2, 2}), out), LC_INVALID_TYPE);
  EXPECT_EQ(add(good, array(nullptr, LC_FLOAT32, {2, 2}), out), LC_INVALID_VALUE);
  EXPECT_EQ(add(good, array(a, static_cast<lcDType>(50), {2, 2}), out), LC_INVALID_TYPE);
  EXPECT_EQ(add(good, array(a, static_cast<lcDType>(-1), {2, 2}), out), LC_INVALID_TYPE);
  EXPECT_EQ(add(good, array(a, LC_FLOAT32, {-2, 2}), out), LC_INVALID_VALUE);
  EXPECT_EQ(add(array(a, LC_FLOAT32, {INT64_MAX, 2}), good, out), LC_INVALID_VALUE);
  EXPECT_EQ(add(array(a, LC_FLOAT32, {int64_t{1} << 62, 4}), good, out), LC_INVALID_VALUE);
  lcArray rank = good;
  rank.ndim = 9;
  EXPECT_EQ(add(rank, good, out), LC_INVALID_VALUE);
  rank.ndim = -1;
  EXPECT_EQ(add(rank, good, out), LC_INVALID_VALUE);
  lcArray strided = good;
  const int64_t huge[] = {INT64_MAX, INT64_MIN}, zero[] = {0, 0};
  strided.strides = huge;
  EXPECT_EQ(add(strided, good, out), LC_INVALID_VALUE);
  lcArray self = out;
  self.strides = zero;
  EXPECT_EQ(add(good, good, self), LC_INVALID_VALUE);  // an output that overlaps itself
  const lcArray shifted = array(c, LC_FLOAT32, {3});
  EXPECT_EQ(add(shifted, shifted, array(c + 1, LC_FLOAT32, {3})), LC_INVALID_VALUE);
  const lcAttr unknown = attr_int("alpha", 1);
  const lcArray in[] = {good, good};
  EXPECT_EQ(lcOpCall("add", in, 2, &unknown, 1, &out, 1, nullptr), LC_INVALID_VALUE);
  EXPECT_EQ(lcOpCall("add", in, 2, nullptr, 1, &out, 1, nullptr), LC_INVALID_VALUE);
  EXPECT_EQ(lcOpCall("add", in, 2, nullptr, 0, &out, 2, nullptr), LC_INVALID_VALUE);
  const auto matmul = [&](lcAttr attr) {
    return lcOpCall("matmul", in, 2, &attr, 1, &out, 1, nullptr);
  };
  EXPECT_EQ(matmul(attr_int(nullptr, 1)), LC_INVALID_VALUE);
  EXPECT_EQ(matmul(attr_int("trans_a", 2)), LC_INVALID_VALUE);
  EXPECT_EQ(matmul(attr_float("trans_a", 1)), LC_INVALID_TYPE);
  EXPECT_EQ(matmul(attr_word("alpha", "x")), LC_INVALID_TYPE);
  EXPECT_EQ(matmul(attr_word("activation", "relux")), LC_INVALID_VALUE);
  EXPECT_TRUE(says("gelu_tanh")) << message();
  EXPECT_EQ(matmul(attr_word("activation", nullptr)), LC_INVALID_VALUE);
  EXPECT_EQ(matmul(attr_int("activation", 7)), LC_INVALID_VALUE);
  EXPECT_EQ(matmul(attr_int("activation", -1)), LC_INVALID_VALUE);
  EXPECT_EQ(matmul({"alpha", static_cast<lcAttrKind>(9), 0, 0, nullptr, 0, nullptr}),
            LC_INVALID_TYPE);
  const auto sum = [&](lcAttr attr) { return lcOpCall("sum", in, 1, &attr, 1, &out, 1, nullptr); };
  EXPECT_EQ(sum({"axes", LC_ATTR_INTS, 0, 0, nullptr, 2, nullptr}), LC_INVALID_VALUE);
  EXPECT_EQ(sum({"axes", LC_ATTR_INTS, 0, 0, zero, 99, nullptr}), LC_INVALID_VALUE);
  EXPECT_EQ(sum({"axes", LC_ATTR_INTS, 0, 0, zero, -1, nullptr}), LC_INVALID_VALUE);
  EXPECT_EQ(lcOpCall("reshape", in, 1, nullptr, 0, &out, 1, nullptr),
            LC_INVALID_VALUE);  // no shape
  const int64_t far[] = {5};
  const lcArray lookup[] = {array(far, LC_INT64, {1}), good};
  lcArray row = array(c, LC_FLOAT32, {1, 2});
  EXPECT_EQ(lcOpCall("embedding", lookup, 2, nullptr, 0, &row, 1, nullptr), LC_INVALID_VALUE);
  EXPECT_EQ(std::vector<float>(c, c + 4), (std::vector<float>(4, 7)));
}

TEST(CApiOps, EmptyArrays) {
  lcArray in[] = {array(nullptr, LC_FLOAT32, {0, 3}), array(nullptr, LC_FLOAT32, {0, 3})};
  lcArray out = array(nullptr, LC_FLOAT32, {0, 3});
  EXPECT_EQ(lcOpCall("add", in, 2, nullptr, 0, &out, 1, nullptr), LC_SUCCESS) << message();
  out.shape[1] = 4;
  EXPECT_EQ(lcOpCall("add", in, 2, nullptr, 0, &out, 1, nullptr), LC_INVALID_VALUE);
  float total = 5;
  lcArray sum = array(&total, LC_FLOAT32, {});
  EXPECT_EQ(lcOpCall("sum", in, 1, nullptr, 0, &sum, 1, nullptr), LC_SUCCESS) << message();
  EXPECT_EQ(total, 0);
}

TEST(CApiReports, EveryKind) {
  const float a[] = {1, 2};
  float c[2] = {};
  const lcArray in[] = {array(a, LC_FLOAT32, {2}), array(a, LC_FLOAT32, {2})};
  lcArray out = array(c, LC_FLOAT32, {2});
  EXPECT_EQ(lcTraceEnable(1), LC_SUCCESS);
  EXPECT_EQ(lcTraceClear(), LC_SUCCESS);
  ASSERT_EQ(lcOpCall("add", in, 2, nullptr, 0, &out, 1, nullptr), LC_SUCCESS);
  EXPECT_EQ(lcTraceEnable(0), LC_SUCCESS);
  for (const char* kind :
       {"trace", "chrome", "timeline", "timeline:op_path", "capabilities", "interfaces", "devices",
        "explain", "ops", "config", "plan_cache", "memory"})
    EXPECT_TRUE(balanced(report(kind))) << kind;
  EXPECT_NE(report("trace").find("\"op\":\"add\""), std::string::npos);
  EXPECT_NE(report("trace_text").find("lc,exec,"), std::string::npos);
  EXPECT_NE(report("timeline:op_path").find("add|cpu|"), std::string::npos);
  EXPECT_NE(report("explain_text").find("cpu/add"), std::string::npos);
  EXPECT_NE(report("config").find("LC_NUM_THREADS"), std::string::npos);
  for (const lc::OpDef* op : lc::all_ops())
    EXPECT_NE(report("ops").find("\"name\":\"" + std::string(op->name) + "\""), std::string::npos);
}

TEST(CApiReports, BadArguments) {
  size_t bytes = 0;
  char small[4] = "abc";
  EXPECT_EQ(lcReport(nullptr, nullptr, 0, &bytes), LC_INVALID_VALUE);
  EXPECT_EQ(lcReport("nonsense", nullptr, 0, &bytes), LC_INVALID_VALUE);
  EXPECT_TRUE(says("explain_text")) << message();
  EXPECT_EQ(lcReport("ops", nullptr, 0, nullptr), LC_INVALID_VALUE);
  EXPECT_EQ(lcReport("ops", nullptr, 10, &bytes), LC_INVALID_VALUE);
  EXPECT_EQ(lcReport("ops", small, sizeof small, &bytes), LC_INVALID_VALUE);
  EXPECT_GT(bytes, sizeof small);
  EXPECT_EQ(small[0], '\0');
  // A thread that called no op has nothing to explain.
  std::thread([] {
    size_t n = 0;
    EXPECT_EQ(lcReport("explain", nullptr, 0, &n), LC_NOT_INITIALIZED);
    EXPECT_NE(std::string(lcLastErrorMessage()), "");
  }).join();
  std::thread([] {
    EXPECT_STREQ(lcLastErrorMessage(), "");
  }).join();  // messages are a thread's own
}

/// Numbers behind each `"name":` of a JSON text, in order.
std::vector<double> numbers(const std::string& json, const std::string& name) {
  std::vector<double> found;
  const std::string key = "\"" + name + "\":";
  for (size_t at = 0; (at = json.find(key, at)) != std::string::npos; at += key.size())
    found.push_back(std::strtod(json.c_str() + at + key.size(), nullptr));
  return found;
}

TEST(CApiReports, TimelineOptionsAreThoseOfCpp) {
  const float a[] = {1, 2, 3, 4};
  float c[4];
  const lcArray in[] = {array(a, LC_FLOAT32, {2, 2}), array(a, LC_FLOAT32, {2, 2})};
  lcArray out = array(c, LC_FLOAT32, {2, 2});
  EXPECT_EQ(lcTraceClear(), LC_SUCCESS);
  EXPECT_EQ(lcTraceEnable(1), LC_SUCCESS);
  for (const char* op : {"add", "matmul", "add", "mul", "add", "matmul"})
    ASSERT_EQ(lcOpCall(op, in, 2, nullptr, 0, &out, 1, nullptr), LC_SUCCESS) << message();
  EXPECT_EQ(lcTraceEnable(0), LC_SUCCESS);
  const std::string text = report(
      "timeline:group_by=op,group_sort_by=count,group_descending=0,event_sort_by=index,"
      "event_descending=1,hotspot_top_k=2");
  EXPECT_TRUE(balanced(text));
  EXPECT_NE(text.find("\"group_descending\":false"), std::string::npos) << text;
  EXPECT_NE(text.find("\"event_descending\":true"), std::string::npos) << text;
  EXPECT_NE(text.find("\"hotspot_top_k\":2"), std::string::npos) << text;
  EXPECT_EQ(numbers(text, "count"), (std::vector<double>{1, 2, 3}));
  const lc::Timeline want = lc::trace_timeline({.event_sort_by = "index",
                                                .event_descending = true,
                                                .group_by = "op",
                                                .group_sort_by = "count",
                                                .group_descending = false,
                                                .hotspot_top_k = 2});
  std::vector<double> index;
  for (const lc::TimelineRow& row : want.events) index.push_back(static_cast<double>(row.index));
  for (const lc::TimelineRow& row : want.hotspots) index.push_back(static_cast<double>(row.index));
  EXPECT_EQ(index.size(), 8u);
  EXPECT_EQ(numbers(text, "index"), index);
  EXPECT_EQ(report("timeline:op_path"), report("timeline:group_by=op_path"));
  EXPECT_EQ(report("timeline"), report("timeline:"));
  const std::pair<const char*, const char*> bad[] = {
      {"timeline:colour", "group_by"},
      {"timeline:group_sort_by=colour", "group_sort_by"},
      {"timeline:event_sort_by=colour", "event_sort_by"},
      {"timeline:colour=op", "'colour'"},
      {"timeline:=op", "''"},
      {"timeline:hotspot_top_k=-1", "hotspot_top_k"},
      {"timeline:hotspot_top_k=99999999999999999999", "hotspot_top_k"},
      {"timeline:hotspot_top_k=", "hotspot_top_k"},
      {"timeline:event_descending=yes", "event_descending"},
      {"timeline:group_descending=2", "group_descending"},
      {"timeline:op,hotspot_top_k=3x", "hotspot_top_k"}};
  size_t bytes = 0;
  for (const auto& [kind, part] : bad) {
    EXPECT_EQ(lcReport(kind, nullptr, 0, &bytes), LC_INVALID_VALUE) << kind;
    EXPECT_TRUE(says(part)) << kind << ": " << message();
  }
  EXPECT_EQ(lcTraceClear(), LC_SUCCESS);
}

TEST(CApiReports, PlanCacheAndMemory) {
  lc::clear_plan_cache();
  const float a[] = {1, 2};
  float c[2];
  const lcArray in[] = {array(a, LC_FLOAT32, {2}), array(a, LC_FLOAT32, {2})};
  lcArray out = array(c, LC_FLOAT32, {2});
  const lc::PlanCacheStats before = lc::plan_cache_stats();
  for (int i = 0; i < 3; ++i)
    ASSERT_EQ(lcOpCall("add", in, 2, nullptr, 0, &out, 1, nullptr), LC_SUCCESS) << message();
  const std::string plans = report("plan_cache");
  EXPECT_EQ(numbers(plans, "entries"), (std::vector<double>{1})) << plans;
  EXPECT_EQ(numbers(plans, "misses")[0], static_cast<double>(before.misses + 1)) << plans;
  EXPECT_EQ(numbers(plans, "hits")[0], static_cast<double>(before.hits + 2)) << plans;
  EXPECT_EQ(numbers(plans, "shared_hits").size(), 1u) << plans;
  const lc::Tensor held = lc::Tensor::zeros({1 << 20});
  const std::string memory = report("memory");
  EXPECT_TRUE(balanced(memory)) << memory;
  EXPECT_EQ(memory.find("{\"cpu\":{\"in_use\":"), 0u) << memory;
  EXPECT_GE(numbers(memory, "in_use")[0], 4 << 20) << memory;
  EXPECT_GE(numbers(memory, "peak")[0], numbers(memory, "in_use")[0]) << memory;
  for (const char* name : {"cached", "allocs", "hits"})
    EXPECT_FALSE(numbers(memory, name).empty()) << name;
}

}  // namespace
