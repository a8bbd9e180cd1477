// mma.sync, d += a b. The layouts of the fragments are in spec cuda.md §2; which form is native on
// which target is in dialects/tile/hardware.py: ptxas replaces what silicon lacks in silence.
#pragma once

#include "words.cuh"

namespace qcc {

// A of 4 registers, B of 2; the accumulators are "+f" (fp32) or "+r" (s32).
#define QCC_MMA(name, instruction, T, constraint)                                         \
  QCC_DEVICE void name(T(&d)[4], const u32(&a)[4], const u32(&b)[2]) {                    \
    asm volatile("mma.sync.aligned." instruction                                          \
                 " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"       \
                 : constraint(d[0]), constraint(d[1]), constraint(d[2]), constraint(d[3]) \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));     \
  }
// The same with half the depth: A of 2 registers, B of 1.
#define QCC_MMA_SHALLOW(name, instruction, T, constraint)                                 \
  QCC_DEVICE void name(T(&d)[4], const u32(&a)[2], const u32(&b)[1]) {                    \
    asm volatile("mma.sync.aligned." instruction                                          \
                 " {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"                   \
                 : constraint(d[0]), constraint(d[1]), constraint(d[2]), constraint(d[3]) \
                 : "r"(a[0]), "r"(a[1]), "r"(b[0]));                                      \
  }

QCC_MMA_SHALLOW(mma_m16n8k8_f16, "m16n8k8.row.col.f32.f16.f16.f32", float, "+f")
QCC_MMA(mma_m16n8k16_f16, "m16n8k16.row.col.f32.f16.f16.f32", float, "+f")
QCC_MMA_SHALLOW(mma_m16n8k8_bf16, "m16n8k8.row.col.f32.bf16.bf16.f32", float, "+f")
QCC_MMA(mma_m16n8k16_bf16, "m16n8k16.row.col.f32.bf16.bf16.f32", float, "+f")
QCC_MMA(mma_m16n8k8_tf32, "m16n8k8.row.col.f32.tf32.tf32.f32", float, "+f")

// f16 accumulators: two registers of pairs.
QCC_DEVICE void mma_m16n8k16_f16_f16(u32 (&d)[2], const u32 (&a)[4], const u32 (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16 {%0, %1}, {%2, %3, %4, %5}, {%6, %7}, "
      "{%0, %1};"
      : "+r"(d[0]), "+r"(d[1])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

QCC_MMA_SHALLOW(mma_m16n8k16_s8, "m16n8k16.row.col.s32.s8.s8.s32", s32, "+r")
QCC_MMA(mma_m16n8k32_s8, "m16n8k32.row.col.s32.s8.s8.s32", s32, "+r")
QCC_MMA(mma_m16n8k32_u8, "m16n8k32.row.col.s32.u8.u8.s32", s32, "+r")
QCC_MMA(mma_m16n8k32_u8s8, "m16n8k32.row.col.s32.u8.s8.s32", s32, "+r")
QCC_MMA(mma_m16n8k32_s8u8, "m16n8k32.row.col.s32.s8.u8.s32", s32, "+r")
QCC_MMA_SHALLOW(mma_m16n8k32_s4, "m16n8k32.row.col.s32.s4.s4.s32", s32, "+r")
QCC_MMA(mma_m16n8k64_s4, "m16n8k64.row.col.s32.s4.s4.s32", s32, "+r")
QCC_MMA(mma_m16n8k64_u4, "m16n8k64.row.col.s32.u4.u4.s32", s32, "+r")
QCC_MMA(mma_m16n8k64_u4s4, "m16n8k64.row.col.s32.u4.s4.s32", s32, "+r")
QCC_MMA(mma_m16n8k64_s4u4, "m16n8k64.row.col.s32.s4.u4.s32", s32, "+r")

QCC_MMA(mma_m16n8k32_e4m3, "m16n8k32.row.col.f32.e4m3.e4m3.f32", float, "+f")
QCC_MMA(mma_m16n8k32_e5m2, "m16n8k32.row.col.f32.e5m2.e5m2.f32", float, "+f")
QCC_MMA(mma_m16n8k32_e4m3e5m2, "m16n8k32.row.col.f32.e4m3.e5m2.f32", float, "+f")
QCC_MMA(mma_m16n8k32_e5m2e4m3, "m16n8k32.row.col.f32.e5m2.e4m3.f32", float, "+f")
#undef QCC_MMA
#undef QCC_MMA_SHALLOW

// Block-scaled forms of sm_120a: a scale for 32 elements of K (e8m0) or for 16 (e4m3). The register
// of a row of A is that of lane 4 (row & 7) + (row >> 3), of a column of B that of lane 4 column.
#define QCC_MMA_SCALED(name, instruction)                                                          \
  QCC_DEVICE void name(float (&d)[4], const u32(&a)[4], const u32(&b)[2], u32 scale_a,             \
                       u32 scale_b) {                                                              \
    asm volatile("mma.sync.aligned." instruction                                                   \
                 " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3}, "               \
                 "{%10}, {%12, %12}, {%11}, {%12, %12};"                                           \
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                  \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(scale_a), \
                   "r"(scale_b), "n"(0));                                                          \
  }
QCC_MMA_SCALED(mma_m16n8k32_mxf8,
               "m16n8k32.row.col.kind::mxf8f6f4.block_scale.scale_vec::1X.f32.e4m3.e4m3.f32.ue8m0")
QCC_MMA_SCALED(mma_m16n8k64_mxf4,
               "m16n8k64.row.col.kind::mxf4.block_scale.scale_vec::2X.f32.e2m1.e2m1.f32.ue8m0")
QCC_MMA_SCALED(mma_m16n8k64_nvf4,
               "m16n8k64.row.col.kind::mxf4nvf4.block_scale.scale_vec::4X.f32.e2m1.e2m1.f32.ue4m3")
#undef QCC_MMA_SCALED

}  // namespace qcc
