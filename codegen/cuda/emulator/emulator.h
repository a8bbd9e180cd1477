// The CPU back end of qcc_cuda.cuh: the CUDA words that kernels use, and the launch of a kernel.
#pragma once

#include "arithmetic.h"
#include "convert.h"
#include "hopper.h"
#include "mma.h"
#include "schedule.h"
#include "views.h"
#include "warp.h"

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

// A letter and a size for each parameter: p8 a pointer, f4 a float, i4 an integer, s128 a record.
template <typename T>
struct Kind {
  static constexpr char letter = 's';
};
template <typename T>
struct Kind<T*> {
  static constexpr char letter = 'p';
};
template <>
struct Kind<float> {
  static constexpr char letter = 'f';
};
template <>
struct Kind<double> {
  static constexpr char letter = 'f';
};
#define QCC_INTEGER(type)               \
  template <>                           \
  struct Kind<type> {                   \
    static constexpr char letter = 'i'; \
  };
QCC_INTEGER(bool)
QCC_INTEGER(u8) QCC_INTEGER(s8) QCC_INTEGER(u16) QCC_INTEGER(s16) QCC_INTEGER(u32)
QCC_INTEGER(s32) QCC_INTEGER(u64) QCC_INTEGER(s64) QCC_INTEGER(long) QCC_INTEGER(unsigned long)
#undef QCC_INTEGER

template <int... numbers>
struct Numbers {};
template <int count, int... numbers>
struct Counted : Counted<count - 1, count - 1, numbers...> {};
template <int... numbers>
struct Counted<0, numbers...> {
  using type = Numbers<numbers...>;
};

template <auto kernel>
struct Kernel;
template <typename... Parameters, void (*kernel)(Parameters...)>
struct Kernel<kernel> {
  template <int... numbers>
  static void call(void** arguments, Numbers<numbers...>) {
    kernel(argument<Parameters>(arguments[numbers])...);
  }
  template <typename T>
  static T argument(const void* address) {
    T value;
    memcpy(static_cast<void*>(&value), address, sizeof value);  // records may want alignment
    return value;
  }
  // Arguments as cuLaunchKernel takes them: the address of each.
  static void invoke(void** arguments) {
    call(arguments, typename Counted<sizeof...(Parameters)>::type{});
  }
  static const char* signature() {
    static char text[8 * sizeof...(Parameters) + 8];
    int length = 0;
    ((length += snprintf(text + length, 8, "%c%d ", Kind<Parameters>::letter,
                         int(sizeof(Parameters)))),
     ...);
    return text;
  }
};

}  // namespace qcc::emulator

#define QCC_KERNEL(name)                                                                  \
  extern "C" int qcc_emulate_##name(void** arguments, ::qcc::emulator::Launch* launch) { \
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
