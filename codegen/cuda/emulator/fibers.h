// Cooperative threads of execution: one for each CUDA thread of a block.
//
// A switch by hand saves the registers that a function call must keep and nothing else: 10 ns,
// where swapcontext asks the system for the signal mask and takes 30 times as long.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>

#if !defined(__x86_64__) && !defined(__aarch64__) && !defined(QCC_UCONTEXT)
#define QCC_UCONTEXT
#endif

namespace qcc::emulator {

constexpr size_t stack_bytes = 64 << 10;

#ifdef QCC_UCONTEXT

}  // namespace qcc::emulator
#include <ucontext.h>
namespace qcc::emulator {

using Fiber = ucontext_t;

inline void switch_fiber(Fiber& from, Fiber& to) { swapcontext(&from, &to); }

inline void prepare_fiber(Fiber& fiber, char* stack, void (*entry)()) {
  getcontext(&fiber);
  fiber.uc_stack.ss_sp = stack;
  fiber.uc_stack.ss_size = stack_bytes;
  fiber.uc_link = nullptr;
  makecontext(&fiber, entry, 0);
}

#else

// The stack pointer; everything else of a suspended fiber lies on its stack.
using Fiber = uint64_t*;

extern "C" __attribute__((visibility("hidden"))) void qcc_switch_fiber(Fiber* from, Fiber to);

#if defined(__x86_64__)

constexpr int saved_words = 6;  // rbx, rbp, r12 … r15; the return address follows them

asm(R"(
    .text
    .p2align 4
    .local qcc_switch_fiber
    .type qcc_switch_fiber, @function
qcc_switch_fiber:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size qcc_switch_fiber, .-qcc_switch_fiber
)");

inline void prepare_fiber(Fiber& fiber, char* stack, void (*entry)()) {
  // A function is entered with its stack pointer 8 below a multiple of 16: `ret` leaves it there.
  uint64_t* top = reinterpret_cast<uint64_t*>(stack + stack_bytes - 8);
  *--top = reinterpret_cast<uint64_t>(entry);
  fiber = top - saved_words;
}

#else

constexpr int saved_words = 20;  // x19 … x30, d8 … d15; x30 is where the fiber goes on

asm(R"(
    .text
    .p2align 4
    .local qcc_switch_fiber
    .type qcc_switch_fiber, %function
qcc_switch_fiber:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
    .size qcc_switch_fiber, .-qcc_switch_fiber
)");

inline void prepare_fiber(Fiber& fiber, char* stack, void (*entry)()) {
  fiber = reinterpret_cast<uint64_t*>(stack + stack_bytes) - saved_words;
  fiber[11] = reinterpret_cast<uint64_t>(entry);
}

#endif

inline void switch_fiber(Fiber& from, Fiber& to) { qcc_switch_fiber(&from, to); }

#endif

// Stacks for the threads of one block, each with an inaccessible page below it.
class Stacks {
 public:
  explicit Stacks(int count) : page(sysconf(_SC_PAGESIZE)), bytes(count * (stack_bytes + page)) {
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    start = memory == MAP_FAILED ? nullptr : static_cast<char*>(memory);
    for (int index = 0; start && index < count; ++index)
      mprotect(start + index * (stack_bytes + page), page, PROT_NONE);
  }
  ~Stacks() {
    if (start) munmap(start, bytes);
  }
  Stacks(const Stacks&) = delete;
  Stacks& operator=(const Stacks&) = delete;

  bool allocated() const { return start != nullptr; }
  char* stack(int index) const { return start + index * (stack_bytes + page) + page; }

 private:
  size_t page, bytes;
  char* start;
};

}  // namespace qcc::emulator
