/* The C API from an installed library. */
#include <lightning_core/lightning_core.h>
#include <stdio.h>

int main(void) {
  float a[4] = {1, 2, 3, 4};
  float b[4] = {2, 2, 2, 2};
  float c[4] = {0, 0, 0, 0};
  const int64_t shape[2] = {2, 2};
  lcArray inputs[2];
  lcArray output = lcArrayOf(c, LC_FLOAT32, 2, shape);
  inputs[0] = lcArrayOf(a, LC_FLOAT32, 2, shape);
  inputs[1] = lcArrayOf(b, LC_FLOAT32, 2, shape);
  if (lcOpCall("matmul", inputs, 2, NULL, 0, &output, 1, NULL) != LC_SUCCESS) {
    fprintf(stderr, "%s\n", lcLastErrorMessage());
    return 1;
  }
  printf("[%g %g; %g %g]\n", (double)c[0], (double)c[1], (double)c[2], (double)c[3]);
  return c[0] == 6 && c[3] == 14 ? 0 : 1;
}
