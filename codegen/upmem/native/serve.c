/* Orders of the host, from standard input: write, read, poison, launch. Answers go to standard output. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "runtime.h"

static char signal_stack[65536];

static void answer(const void *data, size_t bytes) {
    const char *at = data;
    while (bytes) {
        ssize_t written = write(STDOUT_FILENO, at, bytes);
        if (written <= 0) _exit(2);
        at += written, bytes -= (size_t)written;
    }
}

static int receive(void *data, size_t bytes) {
    char *at = data;
    while (bytes) {
        ssize_t got = read(STDIN_FILENO, at, bytes);
        if (got <= 0) return 0;
        at += got, bytes -= (size_t)got;
    }
    return 1;
}

/* The program cannot go on after a signal, nor can the process. */
static void on_signal(int number, siginfo_t *info, void *context) {
    (void)context;
    const char *what = number == SIGSEGV || number == SIGBUS ? "access to memory that is not the program's"
                       : number == SIGFPE                    ? "division by zero"
                                                             : "undefined behaviour: an overflow, an index or a shift out of range";
    outcome.code = number == SIGFPE ? 2 : number == SIGILL || number == SIGTRAP ? FAULT_INSTRUCTION : FAULT_MEMORY;
    outcome.tasklet = (int32_t)current_tasklet();
    snprintf(outcome.text, sizeof outcome.text, "%s (at %p)", what, info->si_addr);
    answer(&outcome, sizeof outcome);
    _exit(1);
}

static void catch_signals(void) {
    stack_t stack = {.ss_sp = signal_stack, .ss_size = sizeof signal_stack, .ss_flags = 0};
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_signal;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaltstack(&stack, NULL);
    int numbers[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; ++i) sigaction(numbers[i], &action, NULL);
}

/* The pages of MRAM behind those of the program's variables. */
static int map_mram(void) {
    extern unsigned char __sys_used_mram_end[];
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t from = ((uintptr_t)__sys_used_mram_end + page - 1) / page * page, to = MRAM_BASE + (uintptr_t)MRAM_BYTES;
    if (from >= to) return from == to;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE;
    return mmap((void *)from, to - from, PROT_READ | PROT_WRITE, flags, -1, 0) == (void *)from;
}

int main(void) {
    struct {
        uint64_t order, address, bytes;
    } order;
    if (!map_mram()) return 3;
    catch_signals();
    while (receive(&order, sizeof order)) {
        switch (order.order) {
        case 'W':
            if (!receive((void *)(uintptr_t)order.address, order.bytes)) return 2;
            break;
        case 'R': answer((const void *)(uintptr_t)order.address, order.bytes); break;
        case 'P': poison_memory((uint32_t)order.address); break;
        case 'L':
            run_tasklets((uint32_t)order.address);
            answer(&outcome, sizeof outcome);
            break;
        default: return 2;
        }
    }
    return 0;
}
