#include <iostream>
#include <lightning_core/lightning_core.hpp>

int main() {
  const lc::Tensor a = lc::Tensor::full({64, 128}, 0.5);
  const lc::Tensor b = lc::Tensor::full({128, 32}, 2.0);
  const lc::Tensor c = lc::matmul(a, b, {}, {.activation = lc::ActivationKind::kRelu});
  std::cout << c.str(4) << "\n";  // 128, 128, ...
  return c.item() == 128 ? 0 : 1;
}
