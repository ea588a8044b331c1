// A first program in C++: eager calls, a session, a policy, and where the time went.
//
//   c++ -std=c++20 first.cpp -llightning_core -o first && ./first
#include <iostream>
#include <lightning_core/lightning_core.hpp>
#include <vector>

int main() try {
  lc::set_trace_enabled(true);

  // Eager: a plan is made at the first call of a shape and found again by the next.
  const std::vector<float> values = {1, 2, 3, 4, 5, 6};
  const lc::Tensor x = lc::Tensor::from(values, {2, 3});
  const lc::Tensor w = lc::Tensor::full({3, 3}, 0.5);
  const lc::Tensor y = lc::matmul(x, w, {}, {.activation = lc::ActivationKind::kRelu});
  const lc::Tensor p = lc::softmax(lc::add(x, y));
  std::cout << y.str() << "\n" << p.str() << "\n";

  // A session keeps its operands and runs its plan many times.
  lc::OpCall call(lc::get_op("matmul"));
  call.in[0] = lc::View(nullptr, lc::DType::kFloat32, {2, 3});
  call.in[1] = lc::View(nullptr, lc::DType::kFloat32, {3, 3});
  lc::Session session(call);
  const lc::View operands[] = {x.view(), w.view()};
  session.start(operands);
  session.run_batch(10);
  const lc::Tensor z = lc::Tensor::empty({2, 3});
  session.finish(z.view());
  std::cout << z.str() << "\n";

  // What does not fit is refused before anything is written.
  try {
    (void)lc::matmul(x, x);
  } catch (const lc::Error& error) {
    std::cout << "refused: " << error.what() << "\n";
  }

  // A policy, here one that refuses to fall back to another device.
  lc::Policy strict;
  strict.strict = true;
  try {
    (void)lc::add(x, y, {.device = lc::parse_device("metal"), .policy = strict});
  } catch (const lc::Error& error) {
    std::cout << "refused: " << error.what() << "\n";
  }

  for (const lc::TimelineGroup& group : lc::trace_timeline({.group_by = "op_path"}).groups)
    std::cout << group.key << ": " << group.count << " calls, " << group.total_duration_ns
              << " ns\n";
  return z.item(0) == 3.0 && y.item(0) == 3.0 ? 0 : 1;
} catch (const std::exception& error) {
  std::cerr << error.what() << "\n";
  return 1;
}
