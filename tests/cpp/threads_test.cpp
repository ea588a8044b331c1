// Four threads that call everything at once: ops by all surfaces, sessions of their own and a
// shared one, the reference's functions, weight files, and every report while the others compute.
// ThreadSanitizer builds run it too.
#include <gtest/gtest.h>

#include <atomic>
#include <barrier>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "c_call.hpp"
#include "case_files.hpp"
#include "lightning_core/dispatch.hpp"
#include "lightning_core/lightning_core.hpp"
#include "lightning_core/safetensors.hpp"
#include "lightning_core/session.hpp"
#include "safetensors_files.hpp"
#include "wrapper_calls.hpp"

namespace lc {
namespace {

constexpr int kThreads = 4;

/// What went wrong, from any thread.
class Problems {
 public:
  void add(const std::string& text) {
    const std::lock_guard lock(mutex_);
    if (first_.empty()) first_ = text;
    ++count_;
  }
  void check(bool ok, const std::string& text) {
    if (!ok) add(text);
  }
  void expect_none() const { EXPECT_EQ(count_, 0) << first_; }

 private:
  std::mutex mutex_;
  std::string first_;
  int count_ = 0;
};

/// Runs `work(thread)` on four threads that start together; what it throws is a problem.
void on_four_threads(Problems& problems, const std::function<void(int)>& work) {
  std::barrier start(kThreads);
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t)
    threads.emplace_back([&, t] {
      start.arrive_and_wait();
      try {
        work(t);
      } catch (const std::exception& e) {
        problems.add(e.what());
      }
    });
  for (std::thread& t : threads) t.join();
}

void call_ops(int thread, const std::vector<Case>& lines, Problems& problems) {
  for (size_t i = 0; i < lines.size(); ++i) {
    const Case& c =
        lines[(i + lines.size() * static_cast<size_t>(thread) / kThreads) % lines.size()];
    const Device device{thread % 2 == 0 ? DeviceKind::kCpu : DeviceKind::kMetal, 0};
    const Comparison by_plan = run_case(c, {.device = device, .seed = 7});
    problems.check(by_plan.ok, by_plan.text);

    std::vector<Tensor> storage;
    OpCall call = make_call(c, storage, 7);
    call.device = device;
    OpCall described = call;
    (void)plan(described);
    std::vector<Tensor> in;
    for (int k = 0; k < call.n_in; ++k)
      in.push_back(call.in[k].present() ? Tensor::wrap(call.in[k]) : Tensor());
    const Tensor wrapped = kWrapperCalls.at(c.op->name)(call, in, {}, {.device = device});
    const Comparison by_wrapper = compare(described, {&wrapped.view(), 1});
    problems.check(by_wrapper.ok, by_wrapper.text);

    const Tensor out = Tensor::empty(described.out[0].shape, described.out[0].dtype);
    const CCall from_c(call);
    problems.check(from_c.run(c_array(out.view())) == LC_SUCCESS, lcLastErrorMessage());
    const Comparison by_c = compare(described, {&out.view(), 1});
    problems.check(by_c.ok, by_c.text);
  }
}

Tensor ramp(const Shape& shape, double step) {
  const Tensor t = Tensor::empty(shape);
  for (int64_t i = 0; i < t.numel(); ++i)
    t.data<float>()[i] = static_cast<float>(static_cast<double>(i % 17) * step - 1);
  return t;
}

bool same_values(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() &&
         std::equal(a.data<float>(), a.data<float>() + a.numel(), b.data<float>());
}

Session make_session(const char* op, const Tensor& a, const Tensor& b) {
  OpCall call(get_op(op));
  call.in[0] = View(nullptr, DType::kFloat32, a.shape());
  call.in[1] = View(nullptr, DType::kFloat32, b.shape());
  return Session(call);
}

TEST(Threads, CallEveryOpByEverySurface) {
  std::vector<Case> lines;
  for (const std::string& path : case_files())
    for (Case& c : read_cases(path, "smoke")) lines.push_back(std::move(c));
  Problems problems;
  set_trace_enabled(true);
  on_four_threads(problems, [&](int thread) { call_ops(thread, lines, problems); });
  set_trace_enabled(false);
  clear_trace();
  problems.expect_none();
}

TEST(Threads, SessionsOfTheirOwnAndASharedOne) {
  const Tensor a = ramp({24, 40}, 0.125), b = ramp({40, 16}, 0.25), c = ramp({24, 40}, 0.5);
  const Tensor product = matmul(a, b), sum = add(a, c);
  Session shared = make_session("add", a, c);
  shared.start({{a.view(), c.view()}});
  Problems problems;
  on_four_threads(problems, [&](int thread) {
    for (int i = 0; i < 20; ++i) {
      Session own = make_session("matmul", a, b);
      own.start({{a.view(), b.view()}});
      own.run_batch(2);
      const Tensor out = Tensor::empty(product.shape());
      own.finish(out.view());
      problems.check(same_values(out, product), "a session's result");
      const Tensor from_shared = Tensor::empty(sum.shape());
      if (thread == 0)
        shared.upload(0, a.view());
      else
        shared.run();
      shared.finish(from_shared.view());
      problems.check(same_values(from_shared, sum), "the shared session's result");
    }
  });
  problems.expect_none();
}

TEST(Threads, ReferenceFunctionsAndTheirSessions) {
  namespace ref = lightning_core;
  using ref::runtime::Device;
  using ref::runtime::Status;
  constexpr size_t kSeq = 12, kDim = 8;
  const Tensor q = ramp({kSeq, kDim}, 0.125), w = ramp({kDim, kSeq}, 0.25);
  const Tensor product = matmul(q, w), attended = attention(q, q, q);
  const ref::AttentionConfig config{kSeq, kDim, false};
  const ref::AttentionSession shared(config, Device::kCPU);
  const ref::ops::MatMulMetalResidentSession<float> resident(kSeq, kDim, kSeq);
  Problems problems;
  on_four_threads(problems, [&](int thread) {
    const Device device = thread % 2 == 0 ? Device::kCPU : Device::kMetal;
    const float *pq = q.data<float>(), *pw = w.data<float>();
    const auto expect = [&](Status status, const Tensor& got, const Tensor& want) {
      problems.check(status == Status::kSuccess, ref::runtime::lastErrorMessage());
      problems.check(same_values(got, want), "a reference function's result");
    };
    for (int i = 0; i < 20; ++i) {
      const Tensor p = Tensor::zeros(product.shape()), y = Tensor::zeros(attended.shape());
      expect(ref::ops::matMul<float>(pq, pw, p.data<float>(), kSeq, kDim, kSeq, device), p,
             product);
      expect(ref::attentionForward(pq, pq, pq, y.data<float>(), config, device), y, attended);
      const Tensor z = Tensor::zeros(attended.shape()), r = Tensor::zeros(product.shape());
      expect(shared.forward(pq, pq, pq, z.data<float>()), z, attended);
      expect(resident.finish(pq, pw, r.data<float>()), r, product);
      void* block = nullptr;
      problems.check(ref::runtime::mallocDevice(&block, 1000) == Status::kSuccess, "mallocDevice");
      problems.check(ref::runtime::freeDevice(block) == Status::kSuccess, "freeDevice");
      // Messages are a thread's own.
      const size_t wrong = static_cast<size_t>(thread) + 100;
      (void)ref::ops::vectorAdd<float>(nullptr, pq, y.data<float>(), wrong, device);
      problems.check(std::string(ref::runtime::lastErrorMessage()).find("a: ") != std::string::npos,
                     ref::runtime::lastErrorMessage());
    }
  });
  problems.expect_none();
}

TEST(Threads, ReportsAndSettingsWhileOthersCompute) {
  const Tensor a = ramp({64, 48}, 0.125), b = ramp({48, 32}, 0.25);
  const Tensor want = matmul(a, b);
  const testing_files::TempFile file(testing_files::file_bytes(
      testing_files::object(testing_files::entry("w", "F32", "2", "0,8")), std::string(8, '\0')));
  Problems problems;
  std::atomic<int> reporting{kThreads / 2};
  on_four_threads(problems, [&](int thread) {
    if (thread < kThreads / 2) {
      while (reporting > 0) problems.check(same_values(matmul(a, b), want), "a product");
      return;
    }
    const lcArray in[] = {c_array(a.view()), c_array(a.view())};
    lcArray shape{};
    for (int i = 0; i < 3; ++i) {
      (void)lcTraceEnable(i % 3 != 2);
      (void)lcOpInfer("add", in, 2, nullptr, 0, &shape, 1, nullptr);
      for (const char* kind :
           {"trace", "trace_text", "chrome", "timeline", "timeline:op_path,hotspot_top_k=3",
            "capabilities", "interfaces", "devices", "explain", "explain_text", "ops", "config",
            "plan_cache", "memory"}) {
        size_t bytes = 0;
        std::string text(1 << 20, '\0');
        problems.check(
            lcReport(kind, text.data(), text.size(), &bytes) == LC_SUCCESS || bytes > text.size(),
            kind);
      }
      if (thread == kThreads - 1) clear_plan_cache();
      (void)plan_cache_stats();
      lcSafetensors* weights = nullptr;
      lcArray w{};
      problems.check(lcSafetensorsOpen(file.path().c_str(), &weights) == LC_SUCCESS, "open");
      problems.check(lcSafetensorsTensor(weights, "w", &w) == LC_SUCCESS, "tensor");
      problems.check(lcSafetensorsClose(weights) == LC_SUCCESS, "close");
    }
    --reporting;
  });
  (void)lcTraceEnable(0);
  (void)lcTraceClear();
  problems.expect_none();
}

// An op that a sink or a task of the pool calls must neither wait for itself nor be lost.
TEST(Threads, OpsCalledFromInsideTheRuntime) {
  const Tensor a = ramp({64, 48}, 0.125), b = ramp({48, 32}, 0.25);
  const Tensor want = matmul(a, b);
  Problems problems;
  std::atomic<int> nested{0};
  set_trace_enabled(true);
  set_trace_sink([&](const TraceEvent&) {
    problems.check(same_values(matmul(a, b), want), "a product from a sink");
    ++nested;  // what a sink does is not sent to it
  });
  on_four_threads(problems, [&](int) {
    for (int i = 0; i < 20; ++i)
      problems.check(same_values(matmul(a, b), want), "a traced product");
  });
  set_trace_sink({});
  set_trace_enabled(false);
  clear_trace();
  EXPECT_EQ(nested, kThreads * 20);
  problems.expect_none();
}

}  // namespace
}  // namespace lc
