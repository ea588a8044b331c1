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
  for (const lc::ConfigVar& row : lc::config_table())
    if (row.kind == lc::ConfigKind::kInt)
      std::cout << row.name << "=" << lc::config_int(row.name) << "\n";
  const lc::MemoryStats memory = lc::memory_stats();
  std::cout << memory.in_use << " bytes in use, " << lc::plan_cache_stats().entries << " plans\n";
  if (memory.in_use < 3 * 16 || memory.peak < memory.in_use) return 1;
  return c.item(0) == 6.0 && c.item(3) == 14.0 ? 0 : 1;
} catch (const std::exception& error) {
  std::cerr << error.what() << "\n";
  return 1;
}
