// Kernels as functions of TVM-FFI: what an exported function does with its arguments, in emulated
// builds and in those for a GPU alike. The kernels of an emulated build are another translation unit.
#pragma once

#include <tvm/ffi/tvm_ffi.h>

#include <vector>

#ifdef __CUDACC__
#include <cuda_runtime.h>
#include <tvm/ffi/extra/c_env_api.h>
#else
#include "../emulator/launch.h"
#endif

namespace qcc::ffi {

// One launch in the making. Arguments are given in the kernel's order.
class Call {
 public:
  Call(const char* kernel, s64 x, s64 y, s64 z, u32 threads, u32 shared_bytes)
      : kernel(kernel), grid{u32(x), u32(y), u32(z)}, threads(threads), shared_bytes(shared_bytes) {
    values.reserve(64);
  }

  void pointer(const tvm::ffi::TensorView& tensor) {
    if (!tensor.IsContiguous())
      TVM_FFI_THROW(ValueError) << kernel << ": tensor " << values.size() << " is not contiguous";
    device = tensor.device();
#ifdef __CUDACC__
    const bool there = device.device_type == kDLCUDA;
#else
    const bool there = device.device_type == kDLCPU;
#endif
    if (!there)
      TVM_FFI_THROW(ValueError) << kernel << ": tensor " << values.size() << " is on another device";
    s64 bytes = (tensor.dtype().bits * tensor.dtype().lanes + 7) / 8;
    for (int axis = 0; axis < tensor.ndim(); ++axis) bytes *= tensor.size(axis);
    const u64 address = reinterpret_cast<u64>(tensor.data_ptr());
    extents.push_back({address, u64(bytes), 0, u32(values.size())});
    values.push_back(address);
  }

  template <typename T>
  void number(T value) {
    u64 word = 0;
    __builtin_memcpy(&word, &value, sizeof value);
    values.push_back(word);
  }

  // `function` is the kernel on a GPU, its qcc_emulate_* otherwise.
  template <typename Function>
  void run(Function function) {
    if (grid[0] == 0 || grid[1] == 0 || grid[2] == 0) return;
    std::vector<void*> arguments;
    for (u64& value : values) arguments.push_back(&value);
#ifdef __CUDACC__
    const void* entry = reinterpret_cast<const void*>(function);
    check(cudaFuncSetAttribute(entry, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes));
    const auto stream = static_cast<cudaStream_t>(
        TVMFFIEnvGetStream(device.device_type, device.device_id));
    check(cudaLaunchKernel(entry, dim3(grid[0], grid[1], grid[2]), dim3(threads), arguments.data(),
                           shared_bytes, stream));
#else
    emulator::Launch launch{};
    for (int axis = 0; axis < 3; ++axis) launch.grid[axis] = grid[axis], launch.block[axis] = 1;
    launch.block[0] = threads;
    launch.shared_bytes = shared_bytes;
    launch.checks = launch.workers = 1;
    launch.extent_count = u32(extents.size());
    launch.extents = extents.data();
    if (function(arguments.data(), &launch))
      TVM_FFI_THROW(RuntimeError) << "kernel '" << kernel << "', line " << launch.violation.line
                                  << ": " << launch.violation.text;
#endif
  }

 private:
#ifdef __CUDACC__
  struct Extent {
    u64 begin, bytes;
    u32 used, argument;
  };

  void check(cudaError_t status) {
    if (status != cudaSuccess)
      TVM_FFI_THROW(RuntimeError) << "kernel '" << kernel << "': " << cudaGetErrorString(status);
  }
#else
  using Extent = emulator::Extent;
#endif

  const char* kernel;
  u32 grid[3];
  u32 threads, shared_bytes;
  DLDevice device{};
  std::vector<u64> values;
  std::vector<Extent> extents;
};

}  // namespace qcc::ffi
