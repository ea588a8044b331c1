/* A first program in C: one product, its kernel, and where the time went.
 *
 *   cc first.c -llightning_core -lm -o first && ./first */
#include <lightning_core/lightning_core.h>
#include <stdio.h>
#include <stdlib.h>

static int fail(const char* what) {
  fprintf(stderr, "%s: %s\n", what, lcLastErrorMessage());
  return 1;
}

int main(void) {
  float a[6] = {1, 2, 3, 4, 5, 6};    /* 2 x 3 */
  float b[6] = {7, 8, 9, 10, 11, 12}; /* 3 x 2 */
  float bias[2] = {-60, -60};
  float c[4];
  const int64_t a_shape[2] = {2, 3}, b_shape[2] = {3, 2}, bias_shape[1] = {2}, c_shape[2] = {2, 2};
  lcArray inputs[3];
  lcArray output;
  lcAttr activation = {0};
  size_t bytes = 0;
  char* text;

  inputs[0] = lcArrayOf(a, LC_FLOAT32, 2, a_shape);
  inputs[1] = lcArrayOf(b, LC_FLOAT32, 2, b_shape);
  inputs[2] = lcArrayOf(bias, LC_FLOAT32, 1, bias_shape);
  output = lcArrayOf(c, LC_FLOAT32, 2, c_shape);
  activation.name = "activation";
  activation.kind = LC_ATTR_WORD;
  activation.word = "relu";

  lcTraceEnable(1);
  if (lcOpCall("matmul", inputs, 3, &activation, 1, &output, 1, NULL) != LC_SUCCESS)
    return fail("matmul");
  printf("relu(a b + bias) = [%g %g; %g %g]\n", (double)c[0], (double)c[1], (double)c[2],
         (double)c[3]);

  /* A call that does not fit is refused, with the reason; c keeps its values. */
  if (lcOpCall("matmul", inputs, 1, NULL, 0, &output, 1, NULL) == LC_SUCCESS) return 1;
  printf("refused: %s\n", lcLastErrorMessage());

  /* Why that kernel, and what ran. */
  if (lcReport("explain_text", NULL, 0, &bytes) != LC_SUCCESS) return fail("explain");
  text = malloc(bytes);
  if (text == NULL) return 1;
  if (lcReport("explain_text", text, bytes, NULL) != LC_SUCCESS) return fail("explain");
  printf("%s\n", text);
  free(text);
  if (lcReport("trace_text", NULL, 0, &bytes) != LC_SUCCESS) return fail("trace");
  text = malloc(bytes);
  if (text == NULL) return 1;
  if (lcReport("trace_text", text, bytes, NULL) != LC_SUCCESS) return fail("trace");
  printf("%s", text);
  free(text);
  return c[0] == 0 && c[3] == 94 ? 0 : 1;
}
