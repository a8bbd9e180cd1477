// The CPU back end of qcc_cuda.cuh: the CUDA words that kernels use, and the launch of a kernel.
#pragma once

#include <type_traits>
#include <utility>

#include "arithmetic.h"
#include "convert.h"
#include "mma.h"
#include "schedule.h"
#include "tensor_copies.h"
#include "tensor_memory.h"
#include "views.h"
#include "warp.h"
#include "wgmma.h"

#include "../device/math.cuh"
#include "../device/packing.cuh"
#include "../device/block_work.cuh"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(bytes) alignas(bytes)

#define threadIdx (::qcc::emulator::current->index)
#define blockIdx (::qcc::emulator::current->machine->block)
#define blockDim (::qcc::emulator::block_size())
#define gridDim (::qcc::emulator::grid_size())

namespace qcc::emulator {

inline Index3 block_size() {
  const u32* size = current->machine->launch->block;
  return {size[0], size[1], size[2]};
}
inline Index3 grid_size() {
  const u32* size = current->machine->launch->grid;
  return {size[0], size[1], size[2]};
}

// A pointer, an integer, a float or a record.
template <typename T>
constexpr char kind_of = std::is_pointer_v<T>          ? 'p'
                         : std::is_integral_v<T>       ? 'i'
                         : std::is_floating_point_v<T> ? 'f'
                                                       : 's';

template <auto kernel>
struct Kernel;
template <typename... Parameters, void (*kernel)(Parameters...)>
struct Kernel<kernel> {
  template <typename T>
  static T argument(const void* address) {
    T value;
    memcpy(static_cast<void*>(&value), address, sizeof value);  // records may want alignment
    return value;
  }
  template <size_t... numbers>
  static void call(void** arguments, std::index_sequence<numbers...>) {
    kernel(argument<Parameters>(arguments[numbers])...);
  }
  // Arguments as cuLaunchKernel takes them: the address of each.
  static void invoke(void** arguments) { call(arguments, std::index_sequence_for<Parameters...>{}); }

  // A letter and a size for each parameter, such as "p8 i4 s128 ".
  static const char* signature() {
    static char text[8 * sizeof...(Parameters) + 8];
    int length = 0;
    ((length += snprintf(text + length, 8, "%c%d ", kind_of<Parameters>, int(sizeof(Parameters)))),
     ...);
    return text;
  }
};

}  // namespace qcc::emulator

#define QCC_KERNEL(name)                                                                  \
  extern "C" int qcc_emulate_##name(void** arguments, ::qcc::emulator::Launch* launch) {  \
    return ::qcc::emulator::run(#name, ::qcc::emulator::Kernel<&name>::invoke, arguments, \
                                *launch);                                                 \
  }                                                                                       \
  extern "C" const char* qcc_signature_##name() {                                         \
    return ::qcc::emulator::Kernel<&name>::signature();                                   \
  }

extern "C" __attribute__((used)) inline const char* qcc_counter_names() {
#define counter(name) #name " "
  return QCC_COUNTERS(counter);
#undef counter
}
