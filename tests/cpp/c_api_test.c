/* The C API from plain C99: what compiles, links and runs without a C++ compiler. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "lightning_core/lightning_core.h"

static int failures = 0;

#define CHECK(condition)                                                                 \
  do {                                                                                   \
    if (!(condition)) {                                                                  \
      fprintf(stderr, "line %d: %s (%s)\n", __LINE__, #condition, lcLastErrorMessage()); \
      ++failures;                                                                        \
    }                                                                                    \
  } while (0)

/* The program that ships with the reference: memory in, memory out, synchronise. */
static void reference_program(void) {
  float host[4] = {1, 2, 3, 4}, back[4] = {0, 0, 0, 0};
  void* device = NULL;
  CHECK(lcMalloc(&device, sizeof host) == LC_SUCCESS);
  CHECK(lcMemcpy(device, host, sizeof host, LC_MEMCPY_HOST_TO_DEVICE) == LC_SUCCESS);
  CHECK(lcMemcpy(back, device, sizeof back, LC_MEMCPY_DEVICE_TO_HOST) == LC_SUCCESS);
  CHECK(lcDeviceSynchronize() == LC_SUCCESS);
  CHECK(memcmp(host, back, sizeof host) == 0);
  CHECK(lcFree(device) == LC_SUCCESS);
  CHECK(lcMalloc(NULL, 1) == LC_INVALID_VALUE);
  CHECK(lcMalloc(&device, 0) == LC_INVALID_VALUE);
}

static void runtime_queries(void) {
  int count = -1, major = 0, minor = 0, patch = 0;
  lcDeviceKind device;
  lcBackendCapabilities caps;
  lcBackendInterfaceContract contract;
  lcSyncPolicy policy = {LC_SYNC_ALWAYS, 1};
  CHECK(lcGetDeviceCount(&count) == LC_SUCCESS && count >= 0);
  CHECK(lcGetPreferredDeviceForInference(&device) == LC_SUCCESS);
  CHECK(lcGetPreferredDeviceForTraining(&device) == LC_SUCCESS);
  CHECK(lcGetBackendCapabilities(LC_DEVICE_CPU, &caps) == LC_SUCCESS && caps.available == 1);
  CHECK(lcGetActiveBackendCapabilities(&caps) == LC_SUCCESS);
  CHECK(lcGetBackendInterfaceContract(LC_DEVICE_CPU, &contract) == LC_SUCCESS);
  CHECK(strcmp(contract.profiler.driver_tag, "runtime.trace.ring") == 0);
  CHECK(lcGetActiveBackendInterfaceContract(&contract) == LC_SUCCESS);
  CHECK(lcGetActiveBackendInterfaceContract(NULL) == LC_INVALID_VALUE);
  CHECK(lcSetDefaultSyncPolicy(policy) == LC_SUCCESS);
  CHECK(lcGetDefaultSyncPolicy().mode == LC_SYNC_ALWAYS);
  CHECK(lcApplyDefaultSyncPolicy() == LC_SUCCESS);
  policy.mode = LC_SYNC_AUTO;
  CHECK(lcApplySyncPolicy(policy) == LC_SUCCESS);
  CHECK(lcSetDefaultSyncPolicy(policy) == LC_SUCCESS);
  CHECK(strlen(lcBackendName()) > 0);
  CHECK(strlen(lcGetMemoryModelName(lcGetMemoryModel())) > 0);
  CHECK(strcmp(lcGetErrorString(LC_SUCCESS), "success") == 0);
  CHECK(lcGetApiVersion(&major, &minor, &patch) == LC_SUCCESS);
  CHECK(major == LC_API_VERSION_MAJOR && minor == LC_API_VERSION_MINOR &&
        patch == LC_API_VERSION_PATCH);
}

static void op_calls(void) {
  double q[12], out[12], weights[3] = {0, 0, 0};
  const int64_t shape[2] = {4, 3};
  lcArray in[4];
  lcArray result = lcArrayOf(out, LC_FLOAT64, 2, shape), inferred;
  lcAttr causal = {0};
  lcCallOptions options;
  char text[65536];
  size_t needed = 0;
  int i;
  for (i = 0; i < 12; ++i) q[i] = 0.1 * i;
  for (i = 0; i < 3; ++i) in[i] = lcArrayOf(q, LC_FLOAT64, 2, shape);
  memset(&in[3], 0, sizeof in[3]); /* no mask */
  causal.name = "causal";
  causal.kind = LC_ATTR_INT;
  causal.i = 1;
  memset(&inferred, 0, sizeof inferred);
  CHECK(lcOpInfer("attention", in, 4, &causal, 1, &inferred, 1, NULL) == LC_SUCCESS);
  CHECK(inferred.dtype == LC_FLOAT64 && inferred.ndim == 2 && inferred.shape[1] == 3);
  lcCallOptionsInit(&options);
  options.device = "cuda"; /* falls back where there is none */
  CHECK(lcTraceEnable(1) == LC_SUCCESS && lcTraceClear() == LC_SUCCESS);
  CHECK(lcOpCall("attention", in, 4, &causal, 1, &result, 1, &options) == LC_SUCCESS);
  CHECK(lcTraceEnable(0) == LC_SUCCESS);
  for (i = 0; i < 3; ++i) CHECK(fabs(out[i] - q[i]) < 1e-12); /* the first row sees itself alone */
  CHECK(lcReport("trace_text", text, sizeof text, &needed) == LC_SUCCESS &&
        strstr(text, "attention") != NULL);
  CHECK(lcReport("explain", text, sizeof text, NULL) == LC_SUCCESS && text[0] == '{');
  result = lcArrayOf(weights, LC_FLOAT64, 1, &shape[1]);
  CHECK(lcOpCall("attention", in, 4, &causal, 1, &result, 1, NULL) == LC_INVALID_VALUE);
  CHECK(strstr(lcLastErrorMessage(), "[attention] out") != NULL);
  CHECK(weights[0] == 0);
}

static void safetensors_file(void) {
  static const char header[] = "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}";
  const unsigned char length[8] = {sizeof header - 1, 0, 0, 0, 0, 0, 0, 0};
  const float values[2] = {3, 4};
  const char* path = "c_api_test.safetensors";
  const char* name = NULL;
  lcSafetensors* file = NULL;
  lcSafetensorsEntry entry;
  lcArray array;
  int64_t count = 0;
  FILE* out = fopen(path, "wb");
  CHECK(out != NULL);
  if (out == NULL) return;
  CHECK(fwrite(length, 1, 8, out) == 8);
  CHECK(fwrite(header, 1, sizeof header - 1, out) == sizeof header - 1);
  CHECK(fwrite(values, sizeof values, 1, out) == 1);
  CHECK(fclose(out) == 0);
  CHECK(lcSafetensorsOpen(path, &file) == LC_SUCCESS);
  CHECK(lcSafetensorsCount(file, &count) == LC_SUCCESS && count == 1);
  CHECK(lcSafetensorsName(file, 0, &name) == LC_SUCCESS && strcmp(name, "a") == 0);
  CHECK(lcSafetensorsInfo(file, "a", &entry) == LC_SUCCESS && entry.nbytes == 8);
  CHECK(lcSafetensorsTensor(file, "a", &array) == LC_SUCCESS && array.ndim == 1);
  CHECK(array.dtype == LC_FLOAT32 && memcmp(array.data, values, sizeof values) == 0);
  CHECK(lcSafetensorsTensor(file, "b", &array) == LC_INVALID_VALUE);
  CHECK(lcSafetensorsClose(file) == LC_SUCCESS);
  CHECK(lcSafetensorsClose(file) == LC_INVALID_VALUE);
  CHECK(remove(path) == 0);
  CHECK(lcSafetensorsOpen(path, &file) == LC_INVALID_VALUE);
}

int main(void) {
  reference_program();
  runtime_queries();
  op_calls();
  safetensors_file();
  if (failures == 0) puts("c_api_test: passed");
  return failures == 0 ? 0 : 1;
}
