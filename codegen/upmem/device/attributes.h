/* Where the variables of a DPU program live. */
#ifndef QCC_SHIM_ATTRIBUTES_H
#define QCC_SHIM_ATTRIBUTES_H

/*
 * clang keeps pointers into MRAM apart from all others, as the vendor's compiler does; gcc has no
 * address spaces in C, so there the same text is checked without them.
 */
#if defined(__clang__) && !defined(QCC_NATIVE)
#define __mram_ptr __attribute__((address_space(255)))
#else
#define __mram_ptr
#endif

#define __aligned(bytes) __attribute__((aligned(bytes)))
#define __section(name) __attribute__((section(name)))
#define __keep __attribute__((used))
#define __dma_aligned __aligned(8)

/* Sections named .bss take no room in an object file, however large they are. */
#define __mram __mram_ptr __section(".mram.data") __dma_aligned
#define __mram_noinit __mram_ptr __section(".bss.mram") __dma_aligned
#define __mram_keep __mram __keep
#define __mram_noinit_keep __mram_noinit __keep

#define __host __section(".dpu_host") __dma_aligned __keep
#define __lower_data(name) __section(".data.immediate." name)

#endif
