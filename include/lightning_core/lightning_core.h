/* Lightning Core's C API: 21 functions of the reference, one call for every op, and weight files.
 *
 *   float a[4] = {1, 2, 3, 4}, b[4] = {5, 6, 7, 8}, c[4];
 *   const int64_t shape[2] = {2, 2};
 *   lcArray in[2] = {lcArrayOf(a, LC_FLOAT32, 2, shape), lcArrayOf(b, LC_FLOAT32, 2, shape)};
 *   lcArray out = lcArrayOf(c, LC_FLOAT32, 2, shape);
 *   if (lcOpCall("matmul", in, 2, NULL, 0, &out, 1, NULL) != LC_SUCCESS)
 *     puts(lcLastErrorMessage());
 *
 * Every function is safe from several threads. A call that is refused changes no memory of the
 * caller's, and lcLastErrorMessage() says why on the same thread. Nothing aborts or prints. */
#ifndef LIGHTNING_CORE_LIGHTNING_CORE_H_
#define LIGHTNING_CORE_LIGHTNING_CORE_H_

#include <stddef.h>
#include <stdint.h>

#define LC_API_VERSION_MAJOR 0
#define LC_API_VERSION_MINOR 2
#define LC_API_VERSION_PATCH 0
#define LC_API_VERSION_STRING "0.2.0"

/* In C any number may arrive in an enum; C++ must be told that all are valid. */
#ifdef __cplusplus
#define LC_ENUM(name) enum name : int
extern "C" {
#else
#define LC_ENUM(name) enum name
#endif

typedef LC_ENUM(lcError){
    LC_SUCCESS = 0,  LC_NOT_INITIALIZED, LC_INVALID_VALUE, LC_OUT_OF_MEMORY, LC_NOT_SUPPORTED,
    LC_DRIVER_ERROR, LC_UNKNOWN,         LC_INVALID_TYPE /* of lcOpCall() and lcOpInfer(): the dtype
                                                            or kind of an argument */
} lcError_t;

typedef LC_ENUM(lcMemcpyKind){LC_MEMCPY_HOST_TO_HOST = 0, LC_MEMCPY_HOST_TO_DEVICE,
                              LC_MEMCPY_DEVICE_TO_HOST, LC_MEMCPY_DEVICE_TO_DEVICE} lcMemcpyKind;

typedef LC_ENUM(lcDeviceKind){LC_DEVICE_CPU = 0, LC_DEVICE_CUDA, LC_DEVICE_METAL} lcDeviceKind;

typedef LC_ENUM(lcMemoryModel){LC_MEMORY_NATIVE_DEVICE = 0,
                               LC_MEMORY_HOST_MANAGED_COMPAT} lcMemoryModel;

typedef LC_ENUM(lcSyncMode){LC_SYNC_AUTO = 0, LC_SYNC_ALWAYS, LC_SYNC_NEVER} lcSyncMode;

typedef struct lcSyncPolicy {
  lcSyncMode mode;
  int trace_sync_boundary;
} lcSyncPolicy;

typedef struct lcBackendCapabilities {
  lcDeviceKind device;
  int built;
  int available;
  int compute_surface;
  int memory_surface;
  int sync_surface;
  int profiling_surface;
  int runtime_trace_surface;
  int sync_policy_surface;
  lcMemoryModel memory_model;
} lcBackendCapabilities;

typedef struct lcComputeInterfaceContract {
  int available;
  int op_dispatch_trace_surface;
  const char* driver_tag;
} lcComputeInterfaceContract;

typedef struct lcMemoryInterfaceContract {
  int available;
  int allocator_surface;
  int memcpy_surface;
  lcMemoryModel memory_model;
  const char* driver_tag;
} lcMemoryInterfaceContract;

typedef struct lcSyncInterfaceContract {
  int available;
  int sync_policy_surface;
  int trace_sync_boundary_surface;
  const char* driver_tag;
} lcSyncInterfaceContract;

typedef struct lcProfilerInterfaceContract {
  int available;
  int runtime_trace_surface;
  int op_dispatch_trace_surface;
  size_t trace_capacity;
  const char* driver_tag;
} lcProfilerInterfaceContract;

typedef struct lcBackendInterfaceContract {
  lcDeviceKind device;
  lcBackendCapabilities capabilities;
  lcComputeInterfaceContract compute;
  lcMemoryInterfaceContract memory;
  lcSyncInterfaceContract sync;
  lcProfilerInterfaceContract profiler;
} lcBackendInterfaceContract;

/* The reference's functions. Memory is host-managed: 64-byte aligned, usable by the CPU, and its
 * bounds are checked. Null and 0 bytes are LC_INVALID_VALUE; lcFree(NULL) succeeds. */
lcError_t lcMalloc(void** ptr, size_t size_bytes);
lcError_t lcFree(void* ptr);
lcError_t lcMemcpy(void* dst, const void* src, size_t size_bytes, lcMemcpyKind kind);
lcError_t lcDeviceSynchronize(void);
lcError_t lcGetDeviceCount(int* count); /* accelerators */
lcError_t lcGetPreferredDeviceForInference(lcDeviceKind* device);
lcError_t lcGetPreferredDeviceForTraining(lcDeviceKind* device);
int lcIsCudaAvailable(void);
int lcIsMetalAvailable(void);
lcMemoryModel lcGetMemoryModel(void);
const char* lcGetMemoryModelName(lcMemoryModel model);
lcError_t lcSetDefaultSyncPolicy(lcSyncPolicy policy);
lcSyncPolicy lcGetDefaultSyncPolicy(void);
lcError_t lcApplySyncPolicy(lcSyncPolicy policy);
lcError_t lcApplyDefaultSyncPolicy(void);
lcError_t lcGetBackendCapabilities(lcDeviceKind device, lcBackendCapabilities* out_caps);
lcError_t lcGetActiveBackendCapabilities(lcBackendCapabilities* out_caps);
lcError_t lcGetBackendInterfaceContract(lcDeviceKind device,
                                        lcBackendInterfaceContract* out_contract);
lcError_t lcGetActiveBackendInterfaceContract(lcBackendInterfaceContract* out_contract);
const char* lcBackendName(void);
const char* lcGetErrorString(lcError_t error);

/* Version of the library that is loaded; null places are skipped. */
lcError_t lcGetApiVersion(int* major, int* minor, int* patch);
const char* lcGetApiVersionString(void);

/* Why this thread's last refused call was refused: "[op] argument: expected ..., found ...". ""
 * when there was none. Valid until this thread's next refused call. */
const char* lcLastErrorMessage(void);

/* Ops. */

#define LC_MAX_RANK 8

typedef LC_ENUM(lcDType){
    LC_DTYPE_NONE = 0, /* an absent optional input */
    LC_FLOAT32,        LC_FLOAT64, LC_FLOAT16, LC_BFLOAT16, LC_INT8,
    LC_UINT8,          LC_INT32,   LC_INT64,   LC_BOOL /* one byte */
} lcDType;

typedef struct lcArray {
  void* data; /* element (0, ..., 0) */
  lcDType dtype;
  int ndim;
  int64_t shape[LC_MAX_RANK];
  const int64_t* strides; /* `ndim` of them, in elements, 0 and below allowed; NULL: row-major */
} lcArray;

typedef LC_ENUM(lcAttrKind){
    LC_ATTR_INT = 0, /* .i; also for bools, and for the number of an enum's word or of a dtype */
    LC_ATTR_FLOAT,   /* .f */
    LC_ATTR_INTS,    /* .list, .n */
    LC_ATTR_WORD     /* .word: of an enum ("relu") or a dtype ("float32") */
} lcAttrKind;

typedef struct lcAttr {
  const char* name;
  lcAttrKind kind;
  int64_t i;
  double f;
  const int64_t* list;
  int n;
  const char* word;
} lcAttr;

typedef struct lcCallOptions {
  size_t struct_size; /* set by lcCallOptionsInit() */
  const char* device; /* "cpu", "cuda", "metal"; NULL: the preferred one */
  const char* kernel; /* a candidate's name, as in lcReport("explain"); NULL: the planner's */
  int strict;         /* implicit copies and fallbacks are errors */
  int fast;           /* reduced precision allowed */
  lcSyncMode sync;
  uint32_t upload;       /* bit i clear: input i must be resident already */
  uint32_t download;     /* bit i clear: output i is computed and not written */
  lcDType compute_dtype; /* every floating input is converted to it; LC_DTYPE_NONE: none is */
} lcCallOptions;

/* The defaults, which are also what a NULL options argument means. */
void lcCallOptionsInit(lcCallOptions* options);

/* An array over `data`, row-major. A bad ndim is kept and refused by the call that gets it. */
static inline lcArray lcArrayOf(void* data, lcDType dtype, int ndim, const int64_t* shape) {
  lcArray array;
  int i;
  array.data = data;
  array.dtype = dtype;
  array.ndim = ndim;
  array.strides = NULL;
  for (i = 0; i < LC_MAX_RANK; ++i) array.shape[i] = i < ndim && shape != NULL ? shape[i] : 0;
  return array;
}

/* Calls an op; lcReport("ops") lists them. Inputs in the op's order: trailing optional ones may be
 * left out, others given with LC_DTYPE_NONE. Outputs are the caller's memory with the dtypes and
 * shapes that lcOpInfer() gives. */
lcError_t lcOpCall(const char* op, const lcArray* inputs, int n_inputs, const lcAttr* attrs,
                   int n_attrs, lcArray* outputs, int n_outputs, const lcCallOptions* options);
/* Checks the call and fills dtype, ndim and shape of its outputs; reads and writes no data, and
 * leaves the outputs' `data` and `strides` alone. */
lcError_t lcOpInfer(const char* op, const lcArray* inputs, int n_inputs, const lcAttr* attrs,
                    int n_attrs, lcArray* outputs, int n_outputs, const lcCallOptions* options);

/* Reports. */

/* Writes a report and its final NUL to `buffer`, and the bytes that takes to `needed` (may be
 * NULL). With a NULL buffer only `needed` is set. One too small is LC_INVALID_VALUE, becoming "".
 *
 *   "trace"          events of the ring, JSON          "trace_text"    one line an event
 *   "chrome"         Chrome/Perfetto trace, JSON       "timeline"      rows, groups, hotspots, JSON
 *   "capabilities"   of every device, JSON             "interfaces"    of every device, JSON
 *   "devices"        what is here, JSON                "config"        environment, JSON
 *   "explain"        this thread's last op call        "explain_text"  the same to read
 *   "ops"            every op's schema, JSON           "memory"        of the pools, bytes, JSON
 *   "plan_cache"     hits, misses, plans held, JSON
 *
 * "timeline:op_path" groups by a word. Any of these may be set instead, separated by commas:
 *   "timeline:group_by=op,group_sort_by=count,group_descending=1,event_sort_by=delta_next_ns,
 *    event_descending=1,hotspot_top_k=3" */
lcError_t lcReport(const char* kind, char* buffer, size_t capacity, size_t* needed);
lcError_t lcTraceEnable(int enabled);
lcError_t lcTraceClear(void);

/* Safetensors files. */

/* An open file. What the functions below hand out is valid until it is closed; a handle that is
 * NULL or closed is LC_INVALID_VALUE. */
typedef struct lcSafetensors lcSafetensors;

typedef struct lcSafetensorsEntry {
  const char* name;       /* UTF-8 */
  const char* dtype_name; /* the format's word: "F32", "BF16", "F8_E4M3" */
  lcDType dtype;          /* LC_DTYPE_NONE where ops do not take it */
  int ndim;               /* 0 to 64 */
  const int64_t* shape;   /* `ndim` extents; NULL for none */
  const void* data;       /* row-major, little-endian, perhaps misaligned */
  int64_t nbytes;         /* exactly dtype times shape */
} lcSafetensorsEntry;

/* Maps a file and checks its whole header: strict JSON, byte ranges that match dtype and shape and
 * tile the data. LC_INVALID_VALUE where it is missing or malformed; the message says what is wrong
 * with it. The file must not be cut short while it is open. */
lcError_t lcSafetensorsOpen(const char* path, lcSafetensors** file);
lcError_t lcSafetensorsClose(lcSafetensors* file); /* NULL succeeds */
/* Tensors, and the name of each: indices are in the order of the names' bytes. */
lcError_t lcSafetensorsCount(lcSafetensors* file, int64_t* count);
lcError_t lcSafetensorsName(lcSafetensors* file, int64_t index, const char** name);
lcError_t lcSafetensorsInfo(lcSafetensors* file, const char* name, lcSafetensorsEntry* entry);
/* An array for lcOpCall(), row-major on the mapped file; on an aligned copy, the same one each
 * time, where the file has it misaligned. Writing to it changes this open file's memory, never the
 * file. LC_NOT_SUPPORTED for LC_DTYPE_NONE and for more than LC_MAX_RANK dimensions. */
lcError_t lcSafetensorsTensor(lcSafetensors* file, const char* name, lcArray* array);
/* Value of a key of the header's metadata; NULL where the file has no such key. */
lcError_t lcSafetensorsMetadata(lcSafetensors* file, const char* key, const char** value);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* LIGHTNING_CORE_LIGHTNING_CORE_H_ */
