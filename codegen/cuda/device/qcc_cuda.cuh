// The device interface of qcc's emitted kernels: one text, two back ends.
//
// Under nvcc and NVRTC every function is one PTX instruction or a few, and this folder is the only
// place with inline PTX. Under a host C++17 compiler the same names run on a CPU and check what
// hardware does not (../emulator). A kernel includes nothing else, stands in namespace qcc, touches
// memory only through Global<T> and Shared<T>, and is followed by QCC_KERNEL(name).
//
// 16-bit floats travel as u16, pairs of them as u32 with the first value in the low half.
// Both builds forbid contraction: a * b + c rounds twice, fma(a, b, c) once.
#pragma once

#include "words.cuh"

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define QCC_KERNEL(name)
#include "memory.cuh"
#include "warp.cuh"
#include "arithmetic.cuh"
#include "convert.cuh"
#include "math.cuh"
#include "packing.cuh"
#include "block_work.cuh"
#include "mma.cuh"
#include "hopper.cuh"
#include "tensor_memory.cuh"

#else
#include "../emulator/emulator.h"
#endif
