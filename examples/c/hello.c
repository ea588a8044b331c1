#include <lightning_core/lightning_core.h>
#include <stdio.h>

int main(void) {
  float a[4] = {1, 2, 3, 4}, b[4] = {5, 6, 7, 8}, c[4];
  const int64_t shape[2] = {2, 2};
  lcArray in[2], out = lcArrayOf(c, LC_FLOAT32, 2, shape);
  in[0] = lcArrayOf(a, LC_FLOAT32, 2, shape);
  in[1] = lcArrayOf(b, LC_FLOAT32, 2, shape);
  if (lcOpCall("matmul", in, 2, NULL, 0, &out, 1, NULL) != LC_SUCCESS) {
    fprintf(stderr, "%s\n", lcLastErrorMessage());
    return 1;
  }
  printf("%g %g %g %g\n", (double)c[0], (double)c[1], (double)c[2], (double)c[3]);
  return c[3] == 50 ? 0 : 1;
}
