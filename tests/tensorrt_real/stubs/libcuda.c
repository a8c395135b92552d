/* CUDA's driver without a GPU: one device named "host" whose memory is the host's, so that the real pycuda
   runs. What is asynchronous is done at once. It is as strict as CUDA where code goes wrong: memory needs a
   context that is current in the thread, what is freed twice or copied past its end is an error.
   Compiled against NVIDIA's cuda.h, which holds every signature. */
#include <cuda.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define BLOCKS 4096
#define DEPTH 16

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct { char *start; size_t bytes; } blocks[BLOCKS];
static int living_blocks, living_streams, living_events, retained;
static char primary; /* its address is the primary context */
static int broken; /* for good, as after an illegal access */
static __thread CUcontext stack[DEPTH];
static __thread int depth;

/* What the tests ask. */
int host_living(int what) {
  int counts[] = {living_blocks, living_streams, living_events, retained};
  return counts[what];
}
int host_depth(void) { return depth; }
void host_break(void) { broken = 1; }

static CUresult current(void) {
  return broken ? CUDA_ERROR_ILLEGAL_ADDRESS : depth == 0 ? CUDA_ERROR_INVALID_CONTEXT : CUDA_SUCCESS;
}

static CUresult take(void **start, size_t bytes) {
  CUresult result = CUDA_ERROR_OUT_OF_MEMORY;
  if (current() != CUDA_SUCCESS) return current();
  if (bytes > 1ul << 30) return CUDA_ERROR_OUT_OF_MEMORY;
  if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  pthread_mutex_lock(&lock);
  for (int i = 0; i < BLOCKS; i++)
    if (blocks[i].start == NULL) {
      if ((blocks[i].start = *start = aligned_alloc(256, (bytes + 255) / 256 * 256)) != NULL) {
        blocks[i].bytes = bytes;
        living_blocks++;
        result = CUDA_SUCCESS;
      }
      break;
    }
  pthread_mutex_unlock(&lock);
  return result;
}

static CUresult give(void *start) {
  CUresult result = CUDA_ERROR_INVALID_VALUE;
  if (current() != CUDA_SUCCESS) return current();
  pthread_mutex_lock(&lock);
  for (int i = 0; i < BLOCKS; i++)
    if (start != NULL && blocks[i].start == start) {
      free(start);
      blocks[i].start = NULL;
      living_blocks--;
      result = CUDA_SUCCESS;
      break;
    }
  pthread_mutex_unlock(&lock);
  return result;
}

static int inside(CUdeviceptr from, size_t bytes) {
  int found = 0;
  pthread_mutex_lock(&lock);
  for (int i = 0; i < BLOCKS && !found; i++) {
    CUdeviceptr start = (CUdeviceptr)blocks[i].start;
    found = start != 0 && from >= start && from + bytes <= start + blocks[i].bytes;
  }
  pthread_mutex_unlock(&lock);
  return found;
}

static CUresult copy(void *to, const void *from, size_t bytes, int fits) {
  if (current() != CUDA_SUCCESS) return current();
  if (!fits) return CUDA_ERROR_INVALID_VALUE;
  memcpy(to, from, bytes);
  return CUDA_SUCCESS;
}

static CUresult make(void **handle, int *living) {
  if (current() != CUDA_SUCCESS) return current();
  *handle = malloc(1);
  __atomic_add_fetch(living, 1, __ATOMIC_SEQ_CST);
  return CUDA_SUCCESS;
}

static CUresult destroy(void *handle, int *living) {
  if (current() != CUDA_SUCCESS) return current();
  free(handle);
  __atomic_sub_fetch(living, 1, __ATOMIC_SEQ_CST);
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuInit(unsigned int flags) { return CUDA_SUCCESS; }
CUresult CUDAAPI cuDriverGetVersion(int *version) { *version = CUDA_VERSION; return CUDA_SUCCESS; }
CUresult CUDAAPI cuGetErrorString(CUresult error, const char **text) {
  *text = error == CUDA_ERROR_INVALID_CONTEXT ? "no context is current" : "refused";
  return CUDA_SUCCESS;
}
CUresult CUDAAPI cuDeviceGetCount(int *count) { *count = 1; return CUDA_SUCCESS; }
CUresult CUDAAPI cuDeviceGet(CUdevice *device, int ordinal) {
  *device = ordinal;
  return ordinal == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}
CUresult CUDAAPI cuDeviceGetName(char *name, int bytes, CUdevice device) {
  strncpy(name, "host", bytes);
  return CUDA_SUCCESS;
}
CUresult CUDAAPI cuDeviceComputeCapability(int *major, int *minor, CUdevice device) {
  *major = 8;
  *minor = 7;
  return CUDA_SUCCESS;
}
CUresult CUDAAPI cuDeviceTotalMem(size_t *bytes, CUdevice device) { *bytes = 1ul << 30; return CUDA_SUCCESS; }
CUresult CUDAAPI cuMemGetInfo(size_t *unused, size_t *bytes) {
  *unused = *bytes = 1ul << 30;
  return current();
}

CUresult CUDAAPI cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
  __atomic_add_fetch(&retained, 1, __ATOMIC_SEQ_CST);
  *context = (CUcontext)&primary;
  return CUDA_SUCCESS;
}
CUresult CUDAAPI cuDevicePrimaryCtxRelease(CUdevice device) {
  return __atomic_sub_fetch(&retained, 1, __ATOMIC_SEQ_CST) < 0 ? CUDA_ERROR_INVALID_CONTEXT : CUDA_SUCCESS;
}
CUresult CUDAAPI cuCtxPushCurrent(CUcontext context) {
  if (context != (CUcontext)&primary || retained == 0 || depth == DEPTH) return CUDA_ERROR_INVALID_CONTEXT;
  stack[depth++] = context;
  return CUDA_SUCCESS;
}
CUresult CUDAAPI cuCtxPopCurrent(CUcontext *context) {
  if (depth == 0) return CUDA_ERROR_INVALID_CONTEXT;
  depth--;
  if (context != NULL) *context = stack[depth];
  return CUDA_SUCCESS;
}
CUresult CUDAAPI cuCtxSetCurrent(CUcontext context) {
  if (depth == 0) depth = 1;
  stack[depth - 1] = context;
  if (context == NULL) depth--;
  return CUDA_SUCCESS;
}
CUresult CUDAAPI cuCtxGetCurrent(CUcontext *context) {
  *context = depth == 0 ? NULL : stack[depth - 1];
  return CUDA_SUCCESS;
}
CUresult CUDAAPI cuCtxGetDevice(CUdevice *device) { *device = 0; return current(); }
CUresult CUDAAPI cuCtxSynchronize(void) { return current(); }

CUresult CUDAAPI cuMemAlloc(CUdeviceptr *start, size_t bytes) { return take((void **)start, bytes); }
CUresult CUDAAPI cuMemFree(CUdeviceptr start) { return give((void *)start); }
CUresult CUDAAPI cuMemHostAlloc(void **start, size_t bytes, unsigned int flags) { return take(start, bytes); }
CUresult CUDAAPI cuMemAllocHost(void **start, size_t bytes) { return take(start, bytes); }
CUresult CUDAAPI cuMemFreeHost(void *start) { return give(start); }
CUresult CUDAAPI cuMemHostGetDevicePointer(CUdeviceptr *device, void *start, unsigned int flags) {
  *device = (CUdeviceptr)start;
  return inside(*device, 1) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
CUresult CUDAAPI cuMemcpyHtoD(CUdeviceptr to, const void *from, size_t bytes) {
  return copy((void *)to, from, bytes, inside(to, bytes));
}
CUresult CUDAAPI cuMemcpyDtoH(void *to, CUdeviceptr from, size_t bytes) {
  return copy(to, (const void *)from, bytes, inside(from, bytes));
}
CUresult CUDAAPI cuMemcpyDtoD(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
  return copy((void *)to, (const void *)from, bytes, inside(to, bytes) && inside(from, bytes));
}
CUresult CUDAAPI cuMemcpyHtoDAsync(CUdeviceptr to, const void *from, size_t bytes, CUstream stream) {
  return cuMemcpyHtoD(to, from, bytes);
}
CUresult CUDAAPI cuMemcpyDtoHAsync(void *to, CUdeviceptr from, size_t bytes, CUstream stream) {
  return cuMemcpyDtoH(to, from, bytes);
}
CUresult CUDAAPI cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
  return cuMemcpyDtoD(to, from, bytes);
}
CUresult CUDAAPI cuMemsetD8(CUdeviceptr start, unsigned char value, size_t count) {
  if (!inside(start, count)) return CUDA_ERROR_INVALID_VALUE;
  memset((void *)start, value, count);
  return current();
}
CUresult CUDAAPI cuMemsetD8Async(CUdeviceptr start, unsigned char value, size_t count, CUstream stream) {
  return cuMemsetD8(start, value, count);
}

CUresult CUDAAPI cuStreamCreate(CUstream *stream, unsigned int flags) {
  return make((void **)stream, &living_streams);
}
CUresult CUDAAPI cuStreamDestroy(CUstream stream) { return destroy(stream, &living_streams); }
CUresult CUDAAPI cuStreamSynchronize(CUstream stream) { return current(); }
CUresult CUDAAPI cuStreamQuery(CUstream stream) { return current(); }
CUresult CUDAAPI cuStreamWaitEvent(CUstream stream, CUevent event, unsigned int flags) { return current(); }
CUresult CUDAAPI cuEventCreate(CUevent *event, unsigned int flags) {
  return make((void **)event, &living_events);
}
CUresult CUDAAPI cuEventDestroy(CUevent event) { return destroy(event, &living_events); }
CUresult CUDAAPI cuEventRecord(CUevent event, CUstream stream) { return current(); }
CUresult CUDAAPI cuEventSynchronize(CUevent event) { return current(); }
CUresult CUDAAPI cuEventQuery(CUevent event) { return current(); }
CUresult CUDAAPI cuEventElapsedTime(float *ms, CUevent start, CUevent end) { *ms = 0; return current(); }
