// The reference's C++ surface: what its programs rely on, and bad input for every function.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "lightning_core/lightning_core.hpp"

namespace {

namespace ref = lightning_core;
namespace ops = lightning_core::ops;
namespace rt = lightning_core::runtime;
using rt::Device;
using rt::Status;

constexpr Device kDevices[] = {Device::kCPU, Device::kCUDA, Device::kMetal};
const auto kBadDevice = static_cast<Device>(9);

template <typename T>
class CompatOps : public ::testing::Test {};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(CompatOps, Types);

template <typename T>
std::vector<T> vec(std::initializer_list<double> values) {
  std::vector<T> v;
  for (const double x : values) v.push_back(static_cast<T>(x));
  return v;
}

TYPED_TEST(CompatOps, EagerOnEveryDevice) {
  using T = TypeParam;
  const auto a = vec<T>({1, 2, 3, 4, 5, 6}), b = vec<T>({7, 8, 9, 10, 11, 12});
  for (const Device device : kDevices) {
    std::vector<T> out(6);
    ASSERT_EQ(ops::matMul<T>(a.data(), b.data(), out.data(), 2, 3, 2, device), Status::kSuccess);
    EXPECT_EQ(std::vector<T>(out.begin(), out.begin() + 4), vec<T>({58, 64, 139, 154}));
    ASSERT_EQ(ops::vectorAdd<T>(a.data(), b.data(), out.data(), 6, device), Status::kSuccess);
    EXPECT_EQ(out, vec<T>({8, 10, 12, 14, 16, 18}));
    ASSERT_EQ(ops::matrixSub<T>(b.data(), a.data(), out.data(), 2, 3, device), Status::kSuccess);
    EXPECT_EQ(out, vec<T>({6, 6, 6, 6, 6, 6}));
    ASSERT_EQ(ops::matrixDiv<T>(a.data(), a.data(), out.data(), 3, 2, device), Status::kSuccess);
    EXPECT_EQ(out, vec<T>({1, 1, 1, 1, 1, 1}));
    const auto x = vec<T>({1, -2, 3, -4, 5, -6, 7, -8, -9}), w = vec<T>({1, 1, 1, 1}),
               bias = vec<T>({1});
    std::vector<T> y(4);
    ASSERT_EQ(ops::conv2dNchw<T>(x.data(), w.data(), bias.data(), y.data(), 1, 1, 3, 3, 1, 2, 2, 1,
                                 1, 0, 0, device),
              Status::kSuccess);
    EXPECT_EQ(y, vec<T>({1, 1, 1, -17}));
    ASSERT_EQ(ops::conv2dNchw<T>(x.data(), w.data(), bias.data(), y.data(), 1, 1, 3, 3, 1, 2, 2, 1,
                                 1, 0, 0, device, true),
              Status::kSuccess);
    EXPECT_EQ(y, vec<T>({1, 1, 1, 0}));
    ASSERT_EQ(ops::conv2dNchw<T>(x.data(), w.data(), nullptr, y.data(), 1, 1, 3, 3, 1, 2, 2, 2, 2,
                                 1, 1, device),
              Status::kSuccess);
    EXPECT_EQ(y, vec<T>({1, 1, 3, -18}));
  }
}

TYPED_TEST(CompatOps, BadArguments) {
  using T = TypeParam;
  std::vector<T> a(16, 1), out(16, 5);
  const T* in = a.data();
  T* o = out.data();
  for (const Device d : kDevices) {
    EXPECT_EQ(ops::matMul<T>(nullptr, in, o, 2, 2, 2, d), Status::kInvalidValue);
    EXPECT_EQ(ops::matMul<T>(in, nullptr, o, 2, 2, 2, d), Status::kInvalidValue);
    EXPECT_EQ(ops::matMul<T>(in, in, nullptr, 2, 2, 2, d), Status::kInvalidValue);
    EXPECT_EQ(ops::matMul<T>(in, in, o, 0, 2, 2, d), Status::kInvalidValue);
    EXPECT_EQ(ops::matMul<T>(in, in, o, 2, 0, 2, d), Status::kInvalidValue);
    EXPECT_EQ(ops::matMul<T>(in, in, o, SIZE_MAX, 2, 2, d), Status::kInvalidValue);
    EXPECT_EQ(ops::matMul<T>(in, in, o, SIZE_MAX / 4, SIZE_MAX / 4, 2, d), Status::kInvalidValue);
    EXPECT_EQ(ops::matMul<T>(in, in, a.data(), 2, 2, 2, d),
              Status::kInvalidValue);  // out overlaps a
    EXPECT_EQ(ops::vectorAdd<T>(in, in, o, 0, d), Status::kInvalidValue);
    EXPECT_EQ(ops::vectorAdd<T>(in, nullptr, o, 4, d), Status::kInvalidValue);
    EXPECT_EQ(ops::matrixSub<T>(in, in, o, 2, 0, d), Status::kInvalidValue);
    EXPECT_EQ(ops::matrixDiv<T>(in, in, nullptr, 2, 2, d), Status::kInvalidValue);
    EXPECT_EQ(ops::conv2dNchw<T>(in, in, in, o, 1, 1, 2, 2, 1, 3, 3, 1, 1, 0, 0, d),
              Status::kInvalidValue);
    EXPECT_EQ(ops::conv2dNchw<T>(in, in, in, o, 1, 1, 2, 2, 1, 1, 1, 0, 1, 0, 0, d),
              Status::kInvalidValue);
    EXPECT_EQ(ops::conv2dNchw<T>(in, nullptr, in, o, 1, 1, 2, 2, 1, 1, 1, 1, 1, 0, 0, d),
              Status::kInvalidValue);
    EXPECT_EQ(ops::conv2dNchw<T>(in, in, in, o, 1, 1, 2, 2, 1, 1, 1, 1, 1, SIZE_MAX, 0, d),
              Status::kInvalidValue);
  }
  EXPECT_EQ(ops::matMul<T>(in, in, o, 2, 2, 2, kBadDevice), Status::kInvalidValue);
  EXPECT_NE(std::string(rt::lastErrorMessage()).find("device"), std::string::npos);
  EXPECT_EQ(out, std::vector<T>(16, 5));
}

TYPED_TEST(CompatOps, PoliciesAreHonoured) {
  using T = TypeParam;
  const auto a = vec<T>({1, 2, 3, 4});
  std::vector<T> out(4, 5);
  const std::vector<T> untouched = out;
  for (const Device d : kDevices) {
    // Nothing resident: null operands must not succeed, whatever the flags say.
    const ops::MatMulIoPolicy finish = ops::makeMetalResidentFinishPolicy();
    EXPECT_NE(ops::matMulWithPolicy<T>(nullptr, nullptr, out.data(), 2, 2, 2, d, finish),
              Status::kSuccess);
    EXPECT_NE(ops::vectorAddWithPolicy<T>(nullptr, a.data(), out.data(), 4, d,
                                          ops::makeMetalVectorResidentRunPolicy()),
              Status::kSuccess);
    EXPECT_NE(ops::matrixSubWithPolicy<T>(a.data(), nullptr, out.data(), 2, 2, d,
                                          ops::makeMetalElemwiseResidentFinishPolicy()),
              Status::kSuccess);
    EXPECT_NE(ops::conv2dNchwWithPolicy<T>(nullptr, nullptr, nullptr, out.data(), 1, 1, 2, 2, 1, 1,
                                           1, 1, 1, 0, 0, d, ops::makeMetalConvResidentRunPolicy()),
              Status::kSuccess);
    EXPECT_EQ(ops::conv2dNchwWithPolicy<T>(a.data(), a.data(), nullptr, out.data(), 1, 1, 2, 2, 1,
                                           1, 1, 1, 1, 0, 0, d, ops::Conv2dIoPolicy{}),
              Status::kInvalidValue);
    // No download never writes.
    EXPECT_EQ(ops::matMulWithPolicy<T>(a.data(), a.data(), out.data(), 2, 2, 2, d,
                                       ops::makeMetalResidentStartPolicy()),
              Status::kSuccess);
    EXPECT_EQ(ops::vectorAddWithPolicy<T>(a.data(), a.data(), nullptr, 4, d,
                                          ops::makeMetalVectorResidentStartPolicy()),
              Status::kSuccess);
    EXPECT_EQ(ops::matrixDivWithPolicy<T>(a.data(), a.data(), out.data(), 2, 2, d,
                                          ops::makeMetalElemwiseResidentStartPolicy()),
              Status::kSuccess);
    EXPECT_EQ(
        ops::conv2dNchwWithPolicy<T>(a.data(), a.data(), a.data(), out.data(), 1, 1, 2, 2, 1, 1, 1,
                                     1, 1, 0, 0, d, ops::makeMetalConvResidentStartPolicy()),
        Status::kSuccess);
    EXPECT_EQ(out, untouched);
  }
}

TYPED_TEST(CompatOps, StatelessResidentFunctions) {
  using T = TypeParam;
  const auto a = vec<T>({1, 2, 3, 4});
  std::vector<T> out(4, 5);
  const std::vector<T> untouched = out;
  const T* p = a.data();
  EXPECT_EQ(ops::matMulMetalResidentStart<T>(p, p, out.data(), 2, 2, 2), Status::kSuccess);
  EXPECT_EQ(ops::matMulMetalResidentRun<T>(p, p, out.data(), 2, 2, 2), Status::kSuccess);
  EXPECT_EQ(ops::matMulMetalResidentSync<T>(p, p, out.data(), 2, 2, 2), Status::kSuccess);
  EXPECT_EQ(ops::matMulMetalResidentBatchSync<T>(p, p, out.data(), 2, 2, 2, 3), Status::kSuccess);
  EXPECT_EQ(ops::matMulMetalResidentBatchNoDownload<T>(p, p, out.data(), 2, 2, 2, 3),
            Status::kSuccess);
  EXPECT_EQ(ops::matMulMetalResidentBatchSync<T>(p, p, out.data(), 2, 2, 2, 0),
            Status::kInvalidValue);
  EXPECT_EQ(ops::matMulMetalResidentBatchSync<T>(nullptr, p, out.data(), 2, 2, 2, 1),
            Status::kInvalidValue);
  EXPECT_NE(ops::matMulMetalResidentBatchNoDownload<T>(nullptr, nullptr, nullptr, 2, 2, 2, 1),
            Status::kSuccess);
  EXPECT_EQ(
      ops::conv2dNchwMetalResidentStart<T>(p, p, p, out.data(), 1, 1, 2, 2, 1, 1, 1, 1, 1, 0, 0),
      Status::kSuccess);
  EXPECT_EQ(
      ops::conv2dNchwMetalResidentRun<T>(p, p, p, out.data(), 1, 1, 2, 2, 1, 1, 1, 1, 1, 0, 0),
      Status::kSuccess);
  EXPECT_EQ(
      ops::conv2dNchwMetalResidentSync<T>(p, p, p, out.data(), 1, 1, 2, 2, 1, 1, 1, 1, 1, 0, 0),
      Status::kSuccess);
  EXPECT_EQ(ops::matrixSubMetalResidentStart<T>(p, p, out.data(), 2, 2), Status::kSuccess);
  EXPECT_EQ(ops::matrixDivMetalResidentRun<T>(p, p, out.data(), 2, 2), Status::kSuccess);
  EXPECT_EQ(ops::vectorAddMetalResidentStart<T>(p, p, out.data(), 4), Status::kSuccess);
  EXPECT_EQ(out, untouched);
  EXPECT_EQ(ops::matMulMetalResidentFinish<T>(p, p, out.data(), 2, 2, 2), Status::kSuccess);
  EXPECT_EQ(out, vec<T>({7, 10, 15, 22}));
  EXPECT_EQ(ops::matrixSubMetalResidentFinish<T>(p, p, out.data(), 2, 2), Status::kSuccess);
  EXPECT_EQ(out, vec<T>({0, 0, 0, 0}));
  EXPECT_EQ(ops::vectorAddMetalResidentFinish<T>(p, p, out.data(), 4), Status::kSuccess);
  EXPECT_EQ(out, vec<T>({2, 4, 6, 8}));
  EXPECT_EQ(
      ops::conv2dNchwMetalResidentFinish<T>(p, p, p, out.data(), 1, 1, 2, 2, 1, 1, 1, 1, 1, 0, 0),
      Status::kSuccess);
  EXPECT_EQ(out, vec<T>({2, 3, 4, 5}));
}

TYPED_TEST(CompatOps, ResidentSessions) {
  using T = TypeParam;
  auto a = vec<T>({1, 2, 3, 4});
  const auto b = vec<T>({1, 0, 0, 1});
  std::vector<T> out(4, 5), out2(4, 5);
  const std::vector<T> untouched = out;
  ops::MatMulMetalResidentSession<T> s(2, 2, 2), other(2, 2, 2);
  EXPECT_NE(s.runBatchSyncCachedNoDownload(1), Status::kSuccess);
  ASSERT_EQ(s.start(a.data(), b.data(), out.data()), Status::kSuccess);
  const auto doubled = vec<T>({2, 4, 6, 8});
  ASSERT_EQ(other.start(doubled.data(), b.data(), out2.data()), Status::kSuccess);
  EXPECT_EQ(s.run(a.data(), b.data(), out.data()), Status::kSuccess);
  EXPECT_EQ(s.sync(a.data(), b.data(), out.data()), Status::kSuccess);
  EXPECT_EQ(s.runBatchSync(a.data(), b.data(), out.data(), 3), Status::kSuccess);
  EXPECT_EQ(s.runBatchSyncNoDownload(a.data(), b.data(), out.data(), 3), Status::kSuccess);
  EXPECT_EQ(s.runBatchSyncCachedNoDownload(3), Status::kSuccess);
  EXPECT_EQ(s.runBatchSync(a.data(), b.data(), out.data(), 0), Status::kInvalidValue);
  EXPECT_EQ(out, untouched);
  EXPECT_EQ(s.finish(a.data(), b.data(), nullptr), Status::kInvalidValue);
  const auto kept = a;
  EXPECT_EQ(s.finish(a.data(), b.data(), a.data()), Status::kInvalidValue);
  EXPECT_NE(std::string(rt::lastErrorMessage()).find("out: expected memory that no input shares"),
            std::string::npos);
  EXPECT_EQ(a, kept);
  EXPECT_EQ(s.finish(nullptr, nullptr, out.data()), Status::kSuccess);
  EXPECT_EQ(out, vec<T>({1, 2, 3, 4}));
  EXPECT_EQ(other.finish(a.data(), b.data(), out2.data()), Status::kSuccess);
  EXPECT_EQ(out2, doubled);
  const auto copy = s;  // sizes, and nothing resident
  EXPECT_NE(copy.runBatchSyncCachedNoDownload(1), Status::kSuccess);
  EXPECT_EQ(s.start(nullptr, b.data(), out.data()), Status::kInvalidValue);
  ops::MatMulMetalResidentSession<T> zero(0, 2, 2);
  EXPECT_EQ(zero.start(a.data(), b.data(), out.data()), Status::kInvalidValue);
  EXPECT_EQ(zero.finish(a.data(), b.data(), out.data()), Status::kInvalidValue);

  ops::MatrixElemwiseMetalResidentSession<T> e(2, 2);
  std::fill(out.begin(), out.end(), T{5});
  ASSERT_EQ(e.subStart(a.data(), b.data(), out.data()), Status::kSuccess);
  EXPECT_EQ(e.subRun(a.data(), b.data(), out.data()), Status::kSuccess);
  ASSERT_EQ(e.divStart(a.data(), a.data(), out.data()), Status::kSuccess);
  EXPECT_EQ(e.divRun(a.data(), a.data(), out.data()), Status::kSuccess);
  EXPECT_EQ(out, untouched);
  EXPECT_EQ(e.subFinish(a.data(), b.data(), out.data()), Status::kSuccess);
  EXPECT_EQ(out, vec<T>({0, 2, 3, 3}));
  EXPECT_EQ(e.divFinish(a.data(), a.data(), out.data()), Status::kSuccess);
  EXPECT_EQ(out, vec<T>({1, 1, 1, 1}));

  auto long_a = vec<T>({1, 2, 3, 4, 5});
  EXPECT_EQ(e.subFinish(long_a.data(), b.data(), long_a.data() + 1), Status::kInvalidValue);
  EXPECT_EQ(long_a, vec<T>({1, 2, 3, 4, 5}));
  EXPECT_EQ(e.subFinish(long_a.data(), b.data(), long_a.data()), Status::kSuccess);  // in place

  ops::VectorAddMetalResidentSession<T> v(4);
  ASSERT_EQ(v.start(a.data(), b.data(), out.data()), Status::kSuccess);
  const T* list[] = {a.data()};
  T* outs[] = {out.data()};
  EXPECT_EQ(v.runBatch(list, list, outs, 1), Status::kSuccess);
  EXPECT_EQ(v.runBatch(nullptr, list, outs, 1), Status::kInvalidValue);
  EXPECT_EQ(v.runBatch(list, list, outs, 0), Status::kInvalidValue);
  EXPECT_EQ(v.finish(a.data(), b.data(), out.data()), Status::kSuccess);
  EXPECT_EQ(out, vec<T>({2, 2, 3, 5}));
}

TEST(CompatOps2, Knobs) {
  EXPECT_EQ(ops::matMulMetalResetTuning(), Status::kSuccess);
  EXPECT_GT(ops::vectorAddOneShotCrossoverN(), 0u);
  EXPECT_GT(ops::conv2dOneShotCpuCrossoverMacs(), 0u);
}

TEST(CompatRuntime, MemoryIsHostManaged) {
  void* p = nullptr;
  EXPECT_EQ(rt::mallocDevice(nullptr, 8), Status::kInvalidValue);
  EXPECT_EQ(rt::mallocDevice(&p, 0), Status::kInvalidValue);
  EXPECT_EQ(rt::mallocDevice(&p, SIZE_MAX), Status::kOutOfMemory);
  EXPECT_EQ(p, nullptr);
  ASSERT_EQ(rt::mallocDevice(&p, 64), Status::kSuccess);
  char text[64] = "seven";
  char back[64] = {};
  EXPECT_EQ(rt::memcpy(p, text, 64, rt::MemcpyKind::kHostToDevice), Status::kSuccess);
  EXPECT_EQ(rt::memcpy(back, p, 64, rt::MemcpyKind::kDeviceToHost), Status::kSuccess);
  EXPECT_STREQ(back, "seven");
  EXPECT_EQ(rt::memcpy(p, text, 65, rt::MemcpyKind::kHostToDevice), Status::kInvalidValue);
  EXPECT_EQ(rt::memcpy(static_cast<char*>(p) + 60, text, 5, rt::MemcpyKind::kHostToDevice),
            Status::kInvalidValue);
  EXPECT_EQ(rt::memcpy(nullptr, text, 1, rt::MemcpyKind::kHostToHost), Status::kInvalidValue);
  EXPECT_EQ(rt::memcpy(p, nullptr, 1, rt::MemcpyKind::kHostToHost), Status::kInvalidValue);
  EXPECT_EQ(rt::memcpy(p, text, 1, static_cast<rt::MemcpyKind>(7)), Status::kInvalidValue);
  EXPECT_EQ(rt::memcpy(p, text, 1, static_cast<rt::MemcpyKind>(256)), Status::kInvalidValue);
  EXPECT_EQ(rt::deviceSynchronize(), Status::kSuccess);
  EXPECT_EQ(rt::freeDevice(p), Status::kSuccess);
  EXPECT_EQ(rt::freeDevice(p), Status::kInvalidValue);  // twice
  EXPECT_EQ(rt::freeDevice(text), Status::kInvalidValue);
  EXPECT_EQ(rt::freeDevice(nullptr), Status::kSuccess);
  EXPECT_EQ(rt::getDeviceCount(nullptr), Status::kInvalidValue);
  int count = -1;
  EXPECT_EQ(rt::getDeviceCount(&count), Status::kSuccess);
  EXPECT_EQ(count > 0, rt::isMetalAvailable() || rt::isCudaAvailable());
}

TEST(CompatRuntime, SyncPolicies) {
  const rt::SyncPolicy before = rt::defaultSyncPolicy();
  rt::setDefaultSyncPolicy({rt::SyncMode::kNever, true});
  EXPECT_EQ(rt::defaultSyncPolicy().mode, rt::SyncMode::kNever);
  EXPECT_TRUE(rt::defaultSyncPolicy().trace_sync_boundary);
  rt::setDefaultSyncPolicy({static_cast<rt::SyncMode>(9), false});  // refused: the old one stays
  EXPECT_EQ(rt::defaultSyncPolicy().mode, rt::SyncMode::kNever);
  EXPECT_EQ(rt::applyDefaultSyncPolicy(), Status::kSuccess);
  EXPECT_EQ(rt::deviceSynchronizeWithPolicy({static_cast<rt::SyncMode>(9), false}),
            Status::kInvalidValue);
  rt::setDefaultSyncPolicy(before);
  for (const auto mode : {rt::SyncMode::kAuto, rt::SyncMode::kAlways, rt::SyncMode::kNever})
    for (const bool boundary : {false, true}) {
      rt::clearRuntimeTraceEvents();
      rt::setRuntimeTraceEnabled(true);
      EXPECT_EQ(rt::deviceSynchronizeWithPolicy({mode, boundary}), Status::kSuccess);
      rt::setRuntimeTraceEnabled(false);
      bool seen = false;
      for (const auto& e : rt::runtimeTraceEvents())
        if (e.type == rt::RuntimeTraceEventType::kApplySyncPolicy) {
          seen = true;
          EXPECT_EQ(e.detail0, static_cast<int>(mode));
          EXPECT_EQ(e.detail1, boundary ? 1 : 0);
        }
      EXPECT_TRUE(seen);
    }
  EXPECT_STREQ(rt::syncModeName(rt::SyncMode::kAlways), "always");
}

TEST(CompatRuntime, CapabilitiesAndInterfaces) {
  const auto cpu = rt::backendCapabilities(Device::kCPU);
  EXPECT_TRUE(cpu.built && cpu.available && cpu.compute_surface);
  EXPECT_FALSE(cpu.memory_surface || cpu.sync_surface || cpu.profiling_surface);
  EXPECT_TRUE(cpu.runtime_trace_surface && cpu.sync_policy_surface);
  EXPECT_EQ(cpu.memory_model, rt::MemoryModel::kHostManagedCompat);
  const auto cuda = rt::backendCapabilities(Device::kCUDA);
  EXPECT_EQ(cuda.memory_model, rt::MemoryModel::kNativeDevice);
  EXPECT_EQ(cuda.compute_surface, cuda.built);
  EXPECT_FALSE(rt::backendCapabilities(kBadDevice).available);
  const auto i = rt::backendInterfaceContract(Device::kCPU);
  EXPECT_TRUE(i.compute.available && i.memory.available && i.memory.memcpy_surface &&
              i.sync.available);
  EXPECT_FALSE(i.memory.allocator_surface);
  EXPECT_EQ(i.profiler.trace_capacity, 4096u);
  EXPECT_STREQ(i.compute.driver_tag, "cpu.eager.dispatch");
  EXPECT_STREQ(i.memory.driver_tag, "cpu.host_memory");
  EXPECT_STREQ(i.sync.driver_tag, "cpu.noop_sync");
  EXPECT_STREQ(rt::backendInterfaceContract(Device::kMetal).memory.driver_tag,
               "metal.host_managed_memory");
  EXPECT_TRUE(rt::activeBackendCapabilities().available);
  EXPECT_TRUE(rt::activeBackendInterfaceContract().compute.available);
  EXPECT_STREQ(rt::memoryModelName(rt::MemoryModel::kHostManagedCompat), "host-managed-compat");
  EXPECT_STREQ(rt::memoryModelName(rt::MemoryModel::kNativeDevice), "native-device");
  EXPECT_STREQ(rt::getErrorString(Status::kOutOfMemory), "out of memory");
  EXPECT_STREQ(rt::getErrorString(static_cast<Status>(99)), "unknown error");
}

TEST(CompatRuntime, Trace) {
  rt::clearRuntimeTraceEvents();
  rt::setRuntimeTraceEnabled(true);
  EXPECT_TRUE(rt::isRuntimeTraceEnabled());
  (void)rt::backendName();
  (void)rt::isMetalAvailable();
  (void)rt::preferredDeviceFor(rt::WorkloadKind::kTraining);
  const float a[4] = {1, 2, 3, 4};
  float c[4];
  EXPECT_EQ(ops::matMul<float>(a, a, c, 2, 2, 2, Device::kMetal), Status::kSuccess);
  rt::traceOpDispatch(rt::RuntimeTraceOpKind::kConv2dNchw, Device::kMetal, Device::kCPU, true, 12);
  rt::setRuntimeTraceEnabled(false);
  const auto events = rt::runtimeTraceEvents();
  ASSERT_EQ(events.size(), 5u);
  EXPECT_EQ(events[0].type, rt::RuntimeTraceEventType::kBackendName);
  EXPECT_EQ(events[2].type, rt::RuntimeTraceEventType::kPreferredDeviceFor);
  EXPECT_EQ(events[3].detail0, static_cast<int>(rt::RuntimeTraceOpKind::kMatMul));
  EXPECT_EQ(events[3].size_bytes, 8u);
  Device requested{}, selected{};
  bool fallback = false;
  EXPECT_TRUE(
      rt::decodeRuntimeTraceDispatchDetail(events[3].detail1, &requested, &selected, &fallback));
  EXPECT_EQ(requested, Device::kMetal);
  EXPECT_EQ(fallback, selected != Device::kMetal);
  EXPECT_EQ(events[4].size_bytes, 12u);
  EXPECT_EQ(rt::encodeRuntimeTraceDispatchDetail(Device::kMetal, Device::kCPU, true), 2 | 256);
  EXPECT_FALSE(rt::decodeRuntimeTraceDispatchDetail(1, nullptr, &selected, &fallback));
  EXPECT_FALSE(rt::decodeRuntimeTraceDispatchDetail(-1, &requested, &selected, &fallback));
  EXPECT_FALSE(rt::decodeRuntimeTraceDispatchDetail(0x0f, &requested, &selected, &fallback));
  EXPECT_EQ(rt::runtimeTraceEventCapacity(), 4096u);
  EXPECT_STREQ(rt::runtimeTraceEventTypeName(rt::RuntimeTraceEventType::kOpDispatch),
               "op_dispatch");
  EXPECT_STREQ(rt::runtimeTraceEventTypeName(static_cast<rt::RuntimeTraceEventType>(77)),
               "unknown");
  EXPECT_STREQ(rt::runtimeTraceOpKindName(rt::RuntimeTraceOpKind::kAttentionForward),
               "attention_forward");
  rt::clearRuntimeTraceEvents();
  EXPECT_TRUE(rt::runtimeTraceEvents().empty());
}

TEST(CompatTensor, Contracts) {
  using Tensor = ref::TensorT<float>;
  for (const auto& shape :
       std::vector<std::vector<int64_t>>{{}, {2, -1}, {0}, {INT64_MAX, 4}, {INT64_MAX / 8, 2}}) {
    Tensor bad(shape, Device::kCPU);
    EXPECT_EQ(bad.validateContract(), Status::kInvalidValue);
    EXPECT_EQ(bad.fromHost({}), Status::kInvalidValue);
    EXPECT_EQ(bad.numel(), 0u);
    std::vector<float> out;
    EXPECT_EQ(bad.toHost(&out), Status::kInvalidValue);
  }
  Tensor t({2, 3});
  EXPECT_EQ(t.validateContract(), Status::kSuccess);
  std::vector<float> host = {1, 2, 3, 4, 5, 6};
  EXPECT_EQ(t.toHost(&host), Status::kSuccess);
  EXPECT_EQ(host, std::vector<float>(6, 0));
  host = {1, 2, 3, 4, 5, 6};
  EXPECT_EQ(t.fromHost(host), Status::kSuccess);
  EXPECT_EQ(t.fromHost({1, 2}), Status::kInvalidValue);
  EXPECT_EQ(t.toHost(nullptr), Status::kInvalidValue);

  ref::TensorView row;
  ASSERT_EQ(t.slice(0, 1, 2, &row), Status::kSuccess);
  EXPECT_EQ(row.layout(), ref::Layout::kStrided);
  EXPECT_EQ(row.offsetElements(), 3u);
  EXPECT_EQ(t.validateViewContract(row), Status::kSuccess);
  std::vector<float> values;
  EXPECT_EQ(t.toHostView(row, &values), Status::kSuccess);
  EXPECT_EQ(values, (std::vector<float>{4, 5, 6}));
  EXPECT_EQ(t.sliceCopy(1, 0, 2, &values), Status::kSuccess);
  EXPECT_EQ(values, (std::vector<float>{1, 2, 4, 5}));
  EXPECT_EQ(t.slice(2, 0, 1, &row), Status::kInvalidValue);
  EXPECT_EQ(t.slice(0, -1, 1, &row), Status::kInvalidValue);
  EXPECT_EQ(t.slice(0, 1, 1, &row), Status::kInvalidValue);
  EXPECT_EQ(t.slice(0, 0, 3, &row), Status::kInvalidValue);
  EXPECT_EQ(t.slice(0, 0, 1, nullptr), Status::kInvalidValue);

  ref::TensorView flat;
  EXPECT_EQ(t.view({6}, &flat), Status::kSuccess);
  EXPECT_TRUE(flat.isContiguous());
  EXPECT_EQ(flat.validateContractForStorage(6), Status::kSuccess);
  EXPECT_EQ(flat.validateContractForStorage(2), Status::kInvalidValue);
  EXPECT_EQ(t.view({5}, &flat), Status::kInvalidValue);
  EXPECT_EQ(t.readStrided({3, 2}, {1, 3}, 0, &values), Status::kSuccess);
  EXPECT_EQ(values, (std::vector<float>{1, 4, 2, 5, 3, 6}));
  const std::vector<float> kept = values;
  EXPECT_EQ(t.readStrided({2, 3}, {3}, 0, &values), Status::kInvalidValue);
  EXPECT_EQ(t.readStrided({2, 3}, {3, 0}, 0, &values), Status::kInvalidValue);
  EXPECT_EQ(t.readStrided({2, 3}, {3, -1}, 0, &values), Status::kInvalidValue);
  EXPECT_EQ(t.readStrided({2, 3}, {3, 1}, 1, &values), Status::kInvalidValue);
  EXPECT_EQ(t.readStrided({2, 3}, {INT64_MAX, INT64_MAX}, 0, &values), Status::kInvalidValue);
  EXPECT_EQ(t.readStrided({2, 3}, {3, 1}, SIZE_MAX, &values), Status::kInvalidValue);
  EXPECT_EQ(values, kept);

  EXPECT_EQ(t.reshape({3, 2}), Status::kSuccess);
  EXPECT_EQ(t.strides(), (std::vector<int64_t>{2, 1}));
  EXPECT_EQ(t.reshape({7}), Status::kInvalidValue);
  Tensor sum({6}), small({2});
  EXPECT_EQ(t.add(t, &sum), Status::kSuccess);
  EXPECT_EQ(sum.toHost(&values), Status::kSuccess);
  EXPECT_EQ(values, (std::vector<float>{2, 4, 6, 8, 10, 12}));
  EXPECT_EQ(t.add(small, &sum), Status::kInvalidValue);
  EXPECT_EQ(t.add(t, nullptr), Status::kInvalidValue);
  EXPECT_STREQ(t.dtypeName(), "float32");
  EXPECT_STREQ(ref::Tensor64({1}).dtypeName(), "float64");
  EXPECT_EQ(t.storageNumel(), 6u);
  EXPECT_NE(t.mutableCpuData(), nullptr);
  EXPECT_EQ(t.rawDevicePtr(), nullptr);
  Tensor moved = std::move(t);
  EXPECT_EQ(moved.numel(), 6u);

  if (!rt::isMetalAvailable()) {
    Tensor metal({2, 3}, Device::kMetal);
    EXPECT_EQ(metal.validateContract(), Status::kNotSupported);
    EXPECT_EQ(metal.fromHost(host), Status::kNotSupported);
    EXPECT_EQ(metal.toHost(&values), Status::kNotSupported);
    EXPECT_NE(std::string(rt::lastErrorMessage()).find("metal"), std::string::npos)
        << rt::lastErrorMessage();
    EXPECT_NE(metal.validateViewContract(flat), Status::kSuccess);
  }
}

TEST(CompatAttention, ForwardTrainAndSession) {
  const ref::AttentionConfig cfg{2, 2, false};
  const std::vector<float> q = {1, 0, 0, 1};
  std::vector<float> v = {10, 0, 0, 20}, out(4);
  for (const Device d : kDevices) {
    ASSERT_EQ(ref::attentionForward(q.data(), q.data(), v.data(), out.data(), cfg, d),
              Status::kSuccess);
    const float want[] = {6.6976f, 6.6048f, 3.3024f, 13.3952f};
    for (int i = 0; i < 4; ++i) EXPECT_NEAR(out[static_cast<size_t>(i)], want[i], 1e-3);
    EXPECT_EQ(ref::attentionForward(nullptr, q.data(), v.data(), out.data(), cfg, d),
              Status::kInvalidValue);
    EXPECT_EQ(ref::attentionForward(q.data(), q.data(), v.data(), nullptr, cfg, d),
              Status::kInvalidValue);
    EXPECT_EQ(ref::attentionForward(q.data(), q.data(), v.data(), out.data(), {0, 2, false}, d),
              Status::kInvalidValue);
    ref::AttentionIoPolicy none;
    none.upload_q = none.upload_k = none.upload_v = false;
    EXPECT_NE(ref::attentionForwardWithPolicy(nullptr, nullptr, nullptr, out.data(), cfg, d, none),
              Status::kSuccess);
  }
  EXPECT_EQ(ref::attentionForward(q.data(), q.data(), v.data(), out.data(), cfg, kBadDevice),
            Status::kInvalidValue);
  EXPECT_EQ(ref::attentionImplementation(Device::kCPU), ref::AttentionImplementation::kCpuSimd);
  EXPECT_STREQ(ref::attentionImplementationName(Device::kCPU), "custom-cpu-simd");
  EXPECT_FALSE(ref::attentionUsesFallback(Device::kCPU));
  EXPECT_EQ(ref::attentionUsesFallback(Device::kMetal), !rt::isMetalAvailable());

  const std::vector<float> target(4, 0);
  float first = 0, second = 0;
  EXPECT_EQ(ref::attentionTrainStep(q.data(), q.data(), v.data(), target.data(), out.data(), 0.01f,
                                    cfg, Device::kCPU, &first),
            Status::kSuccess);
  EXPECT_EQ(ref::attentionTrainStep(q.data(), q.data(), v.data(), target.data(), out.data(), 0.01f,
                                    cfg, Device::kCPU, &second),
            Status::kSuccess);
  EXPECT_GT(first, second);
  const auto kept = v;
  EXPECT_EQ(ref::attentionTrainStep(q.data(), q.data(), v.data(), target.data(), out.data(), 0.0f,
                                    cfg, Device::kCPU, nullptr),
            Status::kInvalidValue);
  EXPECT_EQ(ref::attentionTrainStep(q.data(), q.data(), v.data(), nullptr, out.data(), 0.1f, cfg,
                                    Device::kCPU, nullptr),
            Status::kInvalidValue);
  EXPECT_EQ(v, kept);

  EXPECT_EQ(ref::AttentionSession(cfg, Device::kCPU).defaultPolicy().loss_every, 1);
  EXPECT_EQ(ref::AttentionSession(cfg, Device::kMetal).defaultPolicy().loss_every, 0);
  ref::AttentionSession broken({0, 2, false}, Device::kCPU);
  EXPECT_EQ(broken.forward(q.data(), q.data(), v.data(), out.data()), Status::kInvalidValue);

  ref::AttentionSession shared(cfg, Device::kCPU);
  ref::AttentionIoPolicy every_other;
  every_other.loss_every = 2;
  shared.setDefaultPolicy(every_other);
  std::vector<std::thread> threads;
  std::vector<float> losses(4, -1);
  for (size_t t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      std::vector<float> mine = kept, result(4);
      for (int i = 0; i < 16; ++i)
        if (shared.trainStep(q.data(), q.data(), mine.data(), target.data(), result.data(), 0.01f,
                             &losses[t]) != Status::kSuccess)
          losses[t] = -2;
    });
  for (std::thread& t : threads) t.join();
  for (const float loss : losses) EXPECT_TRUE(loss >= 0 && std::isfinite(loss));
}

TEST(CompatAttention, SizesAndOutputsThatAreNone) {
  const std::vector<float> q = {1, 0, 0, 1}, target(4, 0);
  std::vector<float> v = {10, 0, 0, 20}, memory(8, 5);
  const auto refused = [](Status status, const char* part) {
    EXPECT_EQ(status, Status::kInvalidValue) << part;
    const std::string message = rt::lastErrorMessage();
    EXPECT_NE(message.find(std::string("[attention] ") + part), std::string::npos) << message;
  };
  const float* p = q.data();
  float* out = memory.data();
  for (const Device d : kDevices) {
    for (const auto& [config, part] :
         {std::pair{ref::AttentionConfig{SIZE_MAX, 2, false}, "seq_len"},
          {ref::AttentionConfig{2, SIZE_MAX, false}, "head_dim"},
          {ref::AttentionConfig{size_t{1} << 63, 2, false}, "seq_len"},
          {ref::AttentionConfig{size_t{1} << 62, 4, false}, "q: expected at most 2^62 bytes"},
          {ref::AttentionConfig{size_t{1} << 31, size_t{1} << 31, true}, "q"}}) {
      refused(ref::attentionForward(p, p, v.data(), out, config, d), part);
      refused(ref::attentionTrainStep(p, p, v.data(), target.data(), out, 0.1f, config, d, nullptr),
              part);
      const ref::AttentionSession session(config, d);
      EXPECT_EQ(session.forward(p, p, v.data(), out), Status::kInvalidValue);
    }
    const ref::AttentionConfig config{2, 2, false};
    const ref::AttentionSession session(config, d);
    // One element into an input, and the input itself.
    for (const size_t at : {size_t{0}, size_t{1}}) {
      const float* shared = memory.data();
      float* into = memory.data() + at;
      refused(ref::attentionForward(shared, p, p, into, config, d), "out");
      refused(session.forward(p, shared, p, into), "out");
      refused(ref::attentionTrainStep(shared, p, v.data(), target.data(), into, 0.1f, config, d,
                                      nullptr),
              "out");
      refused(session.trainStep(p, p, v.data(), shared, into, 0.1f, nullptr), "out");
      refused(session.trainStep(p, p, memory.data(), p, into, 0.1f, nullptr), "out");
    }
  }
  EXPECT_EQ(memory, std::vector<float>(8, 5));
  EXPECT_EQ(v, (std::vector<float>{10, 0, 0, 20}));
}

TEST(CompatModels, PresetsAndStages) {
  using ref::ExecutionMode;
  using ref::LoopStage;
  using ref::ModelFamily;
  const auto transformer = ref::makeAggressiveCustomization(ModelFamily::kTransformer,
                                                            ExecutionMode::kTraining, 2048, 128);
  EXPECT_EQ(transformer.attention_loss_every, 16);
  EXPECT_EQ(transformer.vector_oneshot_crossover_n, size_t{8} << 20);
  const auto rnn = ref::makeAggressiveCustomization(ModelFamily::kRnn, ExecutionMode::kInference);
  EXPECT_EQ(rnn.vector_oneshot_crossover_n, size_t{1} << 20);
  EXPECT_EQ(rnn.attention_loss_every, 1);
  const auto run = ref::makeAttentionPolicyForLoop(transformer, LoopStage::kRun);
  EXPECT_FALSE(run.upload_q || run.upload_target || run.download_out || run.download_v ||
               run.synchronize);
  const auto finish = ref::makeAttentionPolicyForLoop(transformer, LoopStage::kFinish);
  EXPECT_TRUE(!finish.upload_v && finish.download_out && finish.download_v && finish.synchronize);
  const auto start = ref::makeMatMulPolicyForLoop(rnn, LoopStage::kStart);
  EXPECT_TRUE(start.upload_a && start.upload_b && !start.download_out && !start.synchronize);
  EXPECT_TRUE(ref::makeElemwisePolicyForLoop(rnn, LoopStage::kOneShot).download_out);
  const auto gcn = ref::models::makeGraphSparseFriendlyPolicy(
      ModelFamily::kGcn, ExecutionMode::kTraining, 131072, 1048576, 128);
  EXPECT_TRUE(gcn.resident_aggregation);
  EXPECT_GE(gcn.edge_chunk_size, 4096u);
  EXPECT_GE(gcn.node_batch_size, 512u);
  const auto once = ref::models::makeGraphSparseFriendlyPolicyCached(
      ModelFamily::kGat, ExecutionMode::kTraining, 2, 8, 64);
  const auto twice = ref::models::makeGraphSparseFriendlyPolicyCached(
      ModelFamily::kGat, ExecutionMode::kTraining, 2, 8, 64);
  EXPECT_EQ(once.edge_chunk_size, twice.edge_chunk_size);
  EXPECT_FALSE(ref::models::makeGraphProjectionPolicy(gcn, LoopStage::kRun).upload_a);
  ref::models::saveGraphPolicyCacheIfDirty();
}

TEST(CompatModels, FastPathsCompute) {
  const Device d = Device::kMetal;
  const std::vector<float> x = {1, 2, 3, 4}, eye = {1, 0, 0, 1};
  std::vector<float> out(4);
  ref::models::TransformerFastPath transformer({2, 2, true, true}, d);
  EXPECT_EQ(transformer.attentionForward(x.data(), x.data(), x.data(), out.data()),
            Status::kSuccess);
  EXPECT_NEAR(out[0], 1, 1e-6);  // causal: the first row sees itself alone
  ref::models::LstmRnnFastPath lstm({2, 2, true, true}, d);
  EXPECT_EQ(lstm.projectInput(x.data(), eye.data(), out.data(), 2), Status::kSuccess);
  EXPECT_EQ(out, x);
  EXPECT_EQ(lstm.projectHidden(x.data(), eye.data(), out.data(), 2), Status::kSuccess);
  EXPECT_EQ(lstm.fuseRecurrent(x.data(), x.data(), out.data(), 4), Status::kSuccess);
  EXPECT_EQ(out[3], 8);
  ref::models::DnnCnnFastPath cnn({2, 2, false, true}, d);
  EXPECT_EQ(cnn.denseProject(x.data(), eye.data(), out.data(), 2), Status::kSuccess);
  EXPECT_EQ(cnn.residualSub(x.data(), eye.data(), out.data(), 2, 2), Status::kSuccess);
  EXPECT_EQ(cnn.channelNormDiv(x.data(), x.data(), out.data(), 2, 2), Status::kSuccess);
  EXPECT_EQ(out[2], 1);
  // A 2 x 4 image of one channel, patches of 2 x 2: two tokens of four values.
  ref::models::VlmFastPath vlm({2, 1, 4, 3, 2, 1, 2, false}, d);
  const std::vector<float> image = {1, 2, 3, 4, 5, 6, 7, 8}, w = {1, 0, 0, 1, 0, 0, 0, 0};
  EXPECT_EQ(vlm.patchEmbedFromImage(image.data(), 2, 4, w.data(), out.data()), Status::kSuccess);
  EXPECT_EQ(out, (std::vector<float>{1, 2, 3, 4}));
  EXPECT_EQ(vlm.patchEmbedFromImage(image.data(), 3, 4, w.data(), out.data()),
            Status::kInvalidValue);
  EXPECT_EQ(vlm.patchEmbedFromImage(nullptr, 2, 4, w.data(), out.data()), Status::kInvalidValue);
  const std::vector<float> image_proj = {1, 1, 3, 3}, text = {0, 0};
  std::vector<float> fused(2);
  EXPECT_EQ(vlm.runCrossAttentionFast(image_proj.data(), text.data(), fused.data()),
            Status::kSuccess);
  EXPECT_NEAR(fused[0], 4.0 / 3.0, 1e-5);  // equal weights over three tokens
  EXPECT_EQ(vlm.runCrossAttentionFast(image_proj.data(), nullptr, fused.data()),
            Status::kInvalidValue);
}

TEST(CompatApple, IsAbsent) {
  double ms = 0;
  EXPECT_EQ(ref::apple::benchmarkCoreMLInference("x", 1, 1, &ms), Status::kNotSupported);
  EXPECT_EQ(ms, -1);
  EXPECT_EQ(ref::apple::benchmarkMpsGraphVectorAdd(1, 1, nullptr), Status::kNotSupported);
  EXPECT_EQ(ref::apple::benchmarkMpsGraphTrainStep(1, 1, &ms), Status::kNotSupported);
}

}  // namespace
