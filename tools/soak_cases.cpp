// Runs every case line with many seeds against the float64 reference. Built and run by
// scripts/soak.
//   soak_cases FIRST_SEED SEEDS FILE...
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "runtime/case.hpp"

int main(int argc, char** argv) try {
  if (argc < 4) {
    std::fprintf(stderr, "usage: soak_cases FIRST_SEED SEEDS FILE...\n");
    return 2;
  }
  const uint64_t first = std::strtoull(argv[1], nullptr, 10);
  const uint64_t seeds = std::strtoull(argv[2], nullptr, 10);
  int64_t runs = 0;
  int64_t failures = 0;
  for (int file = 3; file < argc; ++file) {
    std::vector<lc::Case> lines = lc::read_cases(argv[file], "smoke");
    for (lc::Case& c : lc::read_cases(argv[file], "full")) lines.push_back(std::move(c));
    for (const lc::Case& c : lc::with_other_floats(lines)) {
      const std::string_view op = c.op->name;
      const bool special = op != "attention" && op != "conv2d";
      for (uint64_t seed = first; seed < first + seeds; ++seed) {
        // Plain, into a strided output, and with NaN, infinity and denormals, in turn. Not so the
        // last for attention, which may read what a mask hides, and conv2d, which may multiply its
        // padding.
        const lc::Comparison r = lc::run_case(
            c, {.seed = seed, .special = special && seed % 3 == 2, .strided_out = seed % 3 == 1});
        ++runs;
        if (r.ok) continue;
        ++failures;
        std::printf("seed %llu: %s\n", static_cast<unsigned long long>(seed), r.text.c_str());
      }
    }
  }
  std::printf("%lld runs, %lld failed\n", static_cast<long long>(runs),
              static_cast<long long>(failures));
  return failures == 0 && runs > 0 ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "soak_cases: %s\n", error.what());
  return 1;
}
