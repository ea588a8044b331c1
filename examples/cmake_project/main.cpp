// The C++ API from an installed library.
#include <iostream>
#include <lightning_core/lightning_core.hpp>
#include <vector>

int main() try {
  const std::vector<float> values = {1, 2, 3, 4};
  const lc::Tensor a = lc::Tensor::from(values, {2, 2});
  const lc::Tensor b = lc::Tensor::full({2, 2}, 2.0);
  const lc::Tensor c = lc::matmul(a, b);
  std::cout << c.str() << "\n";
  return c.item(0) == 6.0 && c.item(3) == 14.0 ? 0 : 1;
} catch (const std::exception& error) {
  std::cerr << error.what() << "\n";
  return 1;
}
