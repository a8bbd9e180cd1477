/* A stub for each service: its number in a7, and the environment is called. Stubs cost nothing. */
#define SERVICE(number, name)           \
    .section .text.stub.name, "ax";     \
    .globl name;                        \
    .type name, @function;              \
    name:                               \
    li a7, number;                      \
    ecall;                              \
    ret;                                \
    .size name, 12;
#include "services.def"
