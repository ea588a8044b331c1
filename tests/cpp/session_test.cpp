// lc::Session and the attention runner: residency, sizes, errors, threads.
#include "lightning_core/session.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <functional>
#include <thread>
#include <vector>

#include "lightning_core/trace.hpp"
#include "session/attention_session.hpp"

namespace lc {
namespace {

OpCall matmul_call(int64_t m, int64_t k, int64_t n, DType dtype = DType::kFloat32) {
  OpCall call(get_op("matmul"));
  call.device = Device{};
  call.in[0] = View(nullptr, dtype, Shape{m, k});
  call.in[1] = View(nullptr, dtype, Shape{k, n});
  return call;
}

std::vector<float> product(const std::vector<float>& a, const std::vector<float>& b, int m, int k,
                           int n) {
  std::vector<float> c(static_cast<size_t>(m * n));
  for (int i = 0; i < m; ++i)
    for (int j = 0; j < n; ++j) {
      double sum = 0;
      for (int p = 0; p < k; ++p)
        sum +=
            double{a[static_cast<size_t>(i * k + p)]} * double{b[static_cast<size_t>(p * n + j)]};
      c[static_cast<size_t>(i * n + j)] = static_cast<float>(sum);
    }
  return c;
}

void expect_near(const std::vector<float>& got, const std::vector<float>& want) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], want[i], 1e-4) << i;
}

std::vector<float> ramp(size_t n, float scale) {
  std::vector<float> v(n);
  for (size_t i = 0; i < n; ++i) v[i] = scale * static_cast<float>(i % 7) - 1.0f;
  return v;
}

ErrorCode code_of(const std::function<void()>& f, std::string* message = nullptr) {
  try {
    f();
  } catch (const Error& e) {
    if (message != nullptr) *message = e.what();
    return e.code();
  }
  return ErrorCode::kSuccess;
}

View f32(const std::vector<float>& v, const Shape& shape) {
  return View(const_cast<float*>(v.data()), DType::kFloat32, shape);
}

TEST(Session, StartRunFinish) {
  const auto a = ramp(5 * 3, 0.5f);
  const auto b = ramp(3 * 4, 0.25f);
  std::vector<float> c(20, 77.0f);
  Session s(matmul_call(5, 3, 4));
  EXPECT_EQ(s.n_inputs(), 3);
  const View views[] = {f32(a, {5, 3}), f32(b, {3, 4})};
  s.start(views);
  s.run();
  s.run_batch(3);
  s.sync();
  for (const float x : c) EXPECT_EQ(x, 77.0f);  // only a download writes
  s.finish(f32(c, {5, 4}));
  expect_near(c, product(a, b, 5, 3, 4));
  std::vector<float> flat(20);
  s.download(0, f32(flat, {20}));
  expect_near(flat, c);
  EXPECT_EQ(s.output().shape(), (Shape{5, 4}));
  EXPECT_FLOAT_EQ(static_cast<float>(s.output().item(7)), c[7]);
}

TEST(Session, TwoSessionsKeepTheirOwnOperands) {
  const auto a1 = ramp(6, 1), b1 = ramp(6, 2), a2 = ramp(6, 3), b2 = ramp(6, 4);
  std::vector<float> c1(4), c2(4);
  Session s1(matmul_call(2, 3, 2)), s2(matmul_call(2, 3, 2));
  const View v1[] = {f32(a1, {2, 3}), f32(b1, {3, 2})};
  const View v2[] = {f32(a2, {2, 3}), f32(b2, {3, 2})};
  s1.start(v1);
  s2.start(v2);
  s1.run();
  s1.finish(f32(c1, {2, 2}));
  s2.finish(f32(c2, {2, 2}));
  expect_near(c1, product(a1, b1, 2, 3, 2));
  expect_near(c2, product(a2, b2, 2, 3, 2));
}

TEST(Session, FinishRunsAgainAfterAnUpload) {
  auto a = ramp(6, 1), b = ramp(6, 2);
  std::vector<float> c(4);
  Session s(matmul_call(2, 3, 2));
  const View v[] = {f32(a, {2, 3}), f32(b, {3, 2})};
  s.start(v);
  a[0] += 5;  // the session has its own copy
  s.finish(f32(c, {2, 2}));
  a[0] -= 5;
  expect_near(c, product(a, b, 2, 3, 2));
  a[0] += 5;
  s.upload(0, f32(a, {2, 3}));
  s.finish(f32(c, {2, 2}));
  expect_near(c, product(a, b, 2, 3, 2));
}

TEST(Session, NamesTheMissingOperand) {
  const auto a = ramp(6, 1);
  std::vector<float> c(4, 3.0f);
  Session s(matmul_call(2, 3, 2));
  s.upload(0, f32(a, {2, 3}));
  EXPECT_TRUE(s.resident(0));
  EXPECT_FALSE(s.resident(1));
  std::string message;
  EXPECT_EQ(code_of([&] { s.run(); }, &message), ErrorCode::kInvalidValue);
  EXPECT_NE(message.find("b: expected a resident operand"), std::string::npos) << message;
  EXPECT_EQ(code_of([&] { s.finish(f32(c, {2, 2})); }), ErrorCode::kInvalidValue);
  EXPECT_EQ(code_of([&] { s.download(0, f32(c, {2, 2})); }), ErrorCode::kNotInitialized);
  EXPECT_EQ(code_of([&] { s.start({}); }), ErrorCode::kInvalidValue);
  for (const float x : c) EXPECT_EQ(x, 3.0f);
}

TEST(Session, RefusesBadSizesBeforeTouchingAnything) {
  const auto a = ramp(6, 1), b = ramp(6, 2);
  std::vector<float> c(9, 5.0f);
  Session s(matmul_call(2, 3, 2));
  const View bad[] = {f32(a, {2, 3}), f32(b, {2, 2})};
  EXPECT_EQ(code_of([&] { s.start(bad); }), ErrorCode::kInvalidValue);
  EXPECT_FALSE(s.resident(0));
  EXPECT_EQ(code_of([&] { s.upload(0, View(nullptr, DType::kFloat32, {2, 3})); }),
            ErrorCode::kInvalidValue);
  EXPECT_EQ(code_of([&] { s.upload(0, View{}); }), ErrorCode::kInvalidType);
  EXPECT_EQ(code_of([&] { s.upload(9, f32(a, {2, 3})); }), ErrorCode::kInvalidValue);
  EXPECT_EQ(code_of([&] { s.upload(2, f32(a, {2})); }), ErrorCode::kInvalidValue);  // absent bias
  EXPECT_EQ(code_of([&] { s.run_batch(0); }), ErrorCode::kInvalidValue);
  EXPECT_EQ(code_of([&] { s.run_batch(-1); }), ErrorCode::kInvalidValue);
  const View good[] = {f32(a, {2, 3}), f32(b, {3, 2})};
  s.start(good);
  EXPECT_EQ(code_of([&] { s.finish(f32(c, {9})); }), ErrorCode::kInvalidValue);
  EXPECT_EQ(code_of([&] { s.finish(View(c.data(), DType::kInt32, {2, 2})); }),
            ErrorCode::kInvalidType);
  EXPECT_EQ(code_of([&] { s.finish(View(c.data(), DType::kFloat32, {2, 2}, {0, 1})); }),
            ErrorCode::kInvalidValue);
  EXPECT_EQ(code_of([&] { s.download(1, f32(c, {2, 2})); }), ErrorCode::kInvalidValue);
  EXPECT_EQ(code_of([&] { (void)s.output(3); }), ErrorCode::kInvalidValue);
  for (const float x : c) EXPECT_EQ(x, 5.0f);
  EXPECT_EQ(code_of([] {
              Session bad_shapes(matmul_call(2, 3, 2));
              (void)bad_shapes;
            }),
            ErrorCode::kSuccess);
  OpCall mismatch(get_op("matmul"));
  mismatch.in[0] = View(nullptr, DType::kFloat32, {2, 3});
  mismatch.in[1] = View(nullptr, DType::kFloat32, {4, 2});
  EXPECT_EQ(code_of([&] { Session x(mismatch); }), ErrorCode::kInvalidValue);
  OpCall huge(get_op("add"));
  huge.in[0] = huge.in[1] = View(nullptr, DType::kFloat32, {INT64_MAX / 2, 4});
  EXPECT_EQ(code_of([&] { Session x(huge); }), ErrorCode::kInvalidValue);
}

TEST(Session, ConvertsAndGathersAtUpload) {
  const std::vector<double> a = {1, 2, 3, 4, 5, 6};
  const auto b = ramp(6, 2);
  std::vector<float> c(8, 9.0f);
  Session s(matmul_call(2, 3, 2));
  // a is given transposed in memory and as float64; c has a gap after each row.
  s.upload(0, View(const_cast<double*>(a.data()), DType::kFloat64, {2, 3}, {1, 2}));
  s.upload(1, f32(b, {3, 2}));
  s.finish(View(c.data(), DType::kFloat32, {2, 2}, {4, 1}));
  const auto want = product({1, 3, 5, 2, 4, 6}, b, 2, 3, 2);
  EXPECT_NEAR(c[0], want[0], 1e-5);
  EXPECT_NEAR(c[5], want[3], 1e-5);
  EXPECT_EQ(c[2], 9.0f);
  EXPECT_EQ(c[7], 9.0f);
}

TEST(Session, TracesTransfersAndFallback) {
  const auto a = ramp(4, 1);
  std::vector<float> c(4);
  OpCall call(get_op("add"));
  call.device = Device{DeviceKind::kMetal, 0};
  call.in[0] = call.in[1] = View(nullptr, DType::kFloat32, {4});
  Session s(call);
  s.trace_as("vector_add");
  set_trace_enabled(true);
  clear_trace();
  const View v[] = {f32(a, {4}), f32(a, {4})};
  s.start(v);
  s.finish(f32(c, {4}));
  set_trace_enabled(false);
  int copies = 0, runs = 0;
  for (const TraceEvent& e : trace_events()) {
    if (e.type == TraceType::kMemcpy) ++copies;
    if (e.type != TraceType::kOpDispatch) continue;
    ++runs;
    EXPECT_STREQ(e.op, "vector_add");
    EXPECT_EQ(e.requested, DeviceKind::kMetal);
    EXPECT_EQ(e.fallback, !device_available(DeviceKind::kMetal));
  }
  EXPECT_EQ(copies, 3);
  EXPECT_EQ(runs, 1);
  EXPECT_EQ(c[1], 2 * a[1]);
}

TEST(Session, IsSafeFromSeveralThreads) {
  const auto a = ramp(64, 1), b = ramp(64, 2);
  const auto want = product(a, b, 8, 8, 8);
  Session s(matmul_call(8, 8, 8));
  const View v[] = {f32(a, {8, 8}), f32(b, {8, 8})};
  s.start(v);
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      std::vector<float> c(64);
      for (int i = 0; i < 50; ++i) {
        s.upload(0, v[0]);
        s.run_batch(2);
        s.finish(f32(c, {8, 8}));
        for (size_t j = 0; j < 64; ++j)
          if (std::fabs(c[j] - want[j]) > 1e-4f) ++wrong;
      }
    });
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(wrong, 0);
}

// Attention.

std::vector<double> attention(const std::vector<double>& q, const std::vector<double>& k,
                              const std::vector<double>& v, int s, int d, bool causal,
                              std::vector<double>* weights = nullptr) {
  std::vector<double> out(static_cast<size_t>(s * d)), p(static_cast<size_t>(s * s));
  for (int i = 0; i < s; ++i) {
    double sum = 0;
    for (int j = 0; j < s; ++j) {
      double dot = 0;
      for (int x = 0; x < d; ++x)
        dot += q[static_cast<size_t>(i * d + x)] * k[static_cast<size_t>(j * d + x)];
      const double e = causal && j > i ? 0 : std::exp(dot / std::sqrt(double(d)));
      p[static_cast<size_t>(i * s + j)] = e;
      sum += e;
    }
    for (int j = 0; j < s; ++j) p[static_cast<size_t>(i * s + j)] /= sum;
    for (int x = 0; x < d; ++x)
      for (int j = 0; j < s; ++j)
        out[static_cast<size_t>(i * d + x)] +=
            p[static_cast<size_t>(i * s + j)] * v[static_cast<size_t>(j * d + x)];
  }
  if (weights != nullptr) *weights = p;
  return out;
}

std::vector<double> wave(size_t n, double phase) {
  std::vector<double> v(n);
  for (size_t i = 0; i < n; ++i) v[i] = std::sin(phase + 0.7 * static_cast<double>(i));
  return v;
}

TEST(Attention, ForwardAndPostProcessing) {
  const int s = 5, d = 4;
  const auto q = wave(20, 0), k = wave(20, 1), v = wave(20, 2);
  for (const bool causal : {false, true}) {
    const auto want = attention(q, k, v, s, d, causal);
    std::vector<double> out(20);
    AttentionPolicy post;
    post.output_scale = 0.5;
    post.output_bias = -0.1;
    post.output_relu = true;
    attention_forward({s, d, causal}, Device{}, DType::kFloat64, q.data(), k.data(), v.data(),
                      out.data());
    for (size_t i = 0; i < 20; ++i) EXPECT_NEAR(out[i], want[i], 1e-12);
    attention_forward({s, d, causal}, Device{}, DType::kFloat64, q.data(), k.data(), v.data(),
                      out.data(), post);
    for (size_t i = 0; i < 20; ++i) EXPECT_NEAR(out[i], std::max(0.0, want[i] * 0.5 - 0.1), 1e-12);
  }
}

TEST(Attention, NoDownloadWritesNothing) {
  const auto q = wave(20, 0);
  std::vector<double> out(20, 7.0);
  AttentionPolicy p;
  p.download_out = false;
  p.output_relu = true;
  attention_forward({5, 4, false}, Device{}, DType::kFloat64, q.data(), q.data(), q.data(),
                    out.data(), p);
  attention_forward({5, 4, false}, Device{}, DType::kFloat64, q.data(), q.data(), q.data(), nullptr,
                    p);
  for (const double x : out) EXPECT_EQ(x, 7.0);
}

TEST(Attention, TrainStepIsTheGradientOfTheLoss) {
  const int s = 6, d = 3;
  const auto q = wave(18, 0), k = wave(18, 1), target = wave(18, 5);
  for (const bool causal : {false, true}) {
    auto v = wave(18, 2);
    const auto before = v;
    std::vector<double> p, out(18);
    const auto forward = attention(q, k, v, s, d, causal, &p);
    double loss = 0;
    for (size_t i = 0; i < 18; ++i)
      loss += (forward[i] - target[i]) * (forward[i] - target[i]) / 18;
    const double got = attention_train_step({s, d, causal}, Device{}, DType::kFloat64, q.data(),
                                            k.data(), v.data(), target.data(), out.data(), 0.3);
    EXPECT_NEAR(got, loss, 1e-12);
    for (int j = 0; j < s; ++j)
      for (int x = 0; x < d; ++x) {
        double g = 0;
        for (int i = 0; i < s; ++i) {
          const auto at = static_cast<size_t>(i * d + x);
          g += p[static_cast<size_t>(i * s + j)] * 2 * (forward[at] - target[at]) / 18;
        }
        const auto at = static_cast<size_t>(j * d + x);
        EXPECT_NEAR(v[at], before[at] - 0.3 * g, 1e-12);
        EXPECT_NEAR(out[at], forward[at], 1e-12);
      }
  }
}

TEST(Attention, BadArguments) {
  auto q = wave(20, 0);
  std::vector<double> out(20, 1.0);
  const auto forward = [&](AttentionShape shape, const void* a, const AttentionPolicy& p,
                           DType t = DType::kFloat64) {
    return code_of(
        [&] { attention_forward(shape, Device{}, t, a, q.data(), q.data(), out.data(), p); });
  };
  EXPECT_EQ(forward({0, 4, false}, q.data(), {}), ErrorCode::kInvalidValue);
  EXPECT_EQ(forward({5, -4, false}, q.data(), {}), ErrorCode::kInvalidValue);
  EXPECT_EQ(forward({INT64_MAX / 2, 4, false}, q.data(), {}), ErrorCode::kInvalidValue);
  EXPECT_EQ(forward({5, 4, false}, nullptr, {}), ErrorCode::kInvalidValue);
  EXPECT_EQ(forward({5, 4, false}, q.data(), {}, DType::kInt32), ErrorCode::kInvalidType);
  AttentionPolicy resident;
  resident.upload_q = false;
  EXPECT_EQ(forward({5, 4, false}, nullptr, resident), ErrorCode::kInvalidValue);
  for (const double rate : {0.0, -1.0, std::nan(""), HUGE_VAL})
    EXPECT_EQ(code_of([&] {
                (void)attention_train_step({5, 4, false}, Device{}, DType::kFloat64, q.data(),
                                           q.data(), q.data(), out.data(), nullptr, rate);
              }),
              ErrorCode::kInvalidValue);
  for (const double x : out) EXPECT_EQ(x, 1.0);
}

TEST(Attention, RunnerKeepsWhatThePolicyLeavesThere) {
  const auto q = wave(20, 0), k = wave(20, 1), v = wave(20, 2);
  const auto want = attention(q, k, v, 5, 4, false);
  std::vector<double> out(20, 7.0);
  AttentionRunner runner({5, 4, false}, Device{}, DType::kFloat64);
  AttentionPolicy start, run, finish;
  start.download_out = false;
  run.upload_q = run.upload_k = run.upload_v = run.download_out = false;
  finish.upload_q = finish.upload_k = finish.upload_v = false;
  EXPECT_EQ(code_of([&] { runner.forward(nullptr, nullptr, nullptr, out.data(), &finish); }),
            ErrorCode::kInvalidValue);
  runner.forward(q.data(), k.data(), v.data(), nullptr, &start);
  runner.forward(nullptr, nullptr, nullptr, nullptr, &run);
  for (const double x : out) EXPECT_EQ(x, 7.0);
  runner.forward(nullptr, nullptr, nullptr, out.data(), &finish);
  for (size_t i = 0; i < 20; ++i) EXPECT_NEAR(out[i], want[i], 1e-12);
}

TEST(Attention, RunnerTrainsAResidentVAndDownloadsIt) {
  const auto q = wave(20, 0), k = wave(20, 1), target = wave(20, 3);
  auto v = wave(20, 2);
  auto eager = v;
  std::vector<double> out(20);
  for (int i = 0; i < 3; ++i)
    (void)attention_train_step({5, 4, true}, Device{}, DType::kFloat64, q.data(), k.data(),
                               eager.data(), target.data(), out.data(), 0.1);
  AttentionRunner runner({5, 4, true}, Device{}, DType::kFloat64);
  AttentionPolicy start, run, finish;
  start.download_out = start.download_v = false;
  run.upload_q = run.upload_k = run.upload_v = run.upload_target = run.download_out =
      run.download_v = false;
  finish.upload_q = finish.upload_k = finish.upload_v = finish.upload_target = false;
  const auto before = v;
  (void)runner.train_step(q.data(), k.data(), v.data(), target.data(), nullptr, 0.1, &start);
  (void)runner.train_step(nullptr, nullptr, nullptr, nullptr, nullptr, 0.1, &run);
  EXPECT_EQ(v, before);
  (void)runner.train_step(nullptr, nullptr, v.data(), nullptr, out.data(), 0.1, &finish);
  for (size_t i = 0; i < 20; ++i) EXPECT_NEAR(v[i], eager[i], 1e-12);
}

TEST(Attention, RunnerSamplesTheLoss) {
  const auto q = wave(20, 0), target = wave(20, 3);
  auto v = wave(20, 2);
  std::vector<double> out(20);
  AttentionRunner runner({5, 4, false}, Device{}, DType::kFloat64);
  AttentionPolicy p = runner.default_policy();
  EXPECT_EQ(p.loss_every, 1);
  p.loss_every = 3;
  runner.set_default_policy(p);
  std::vector<double> losses;
  for (int i = 0; i < 6; ++i)
    losses.push_back(
        runner.train_step(q.data(), q.data(), v.data(), target.data(), out.data(), 0.5));
  EXPECT_EQ(losses[0], losses[1]);
  EXPECT_EQ(losses[0], losses[2]);
  EXPECT_LT(losses[3], losses[0]);
  EXPECT_EQ(losses[3], losses[5]);
  p.loss_every = -1;
  EXPECT_EQ(code_of([&] { runner.set_default_policy(p); }), ErrorCode::kInvalidValue);
  EXPECT_EQ(attention_loss_interval(256, 64), 32);
  EXPECT_EQ(attention_loss_interval(256, 128), 16);
  EXPECT_EQ(attention_loss_interval(1024, 64), 8);
  EXPECT_EQ(attention_loss_interval(7, 7), 4);
}

}  // namespace
}  // namespace lc
