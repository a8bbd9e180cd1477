"""The RV32 interpreter: every operation against NumPy, and the issue slots it charges."""

from __future__ import annotations

import numpy as np
import pytest

from qcc.codegen.upmem.build_dpu import build_rv32, check_types, check_untyped
from qcc.codegen.upmem.dpu_program import DpuProgram, Memories
from qcc.codegen.upmem.rv32 import Dpu
from qcc.codegen.upmem.toolchain import candidates
from qcc.dialects.errors import QccError, ResourceError

pytestmark = pytest.mark.skipif(
    not candidates(), reason="needs a clang for RV32: pip install 'qcc[pim-emu]'"
)

COUNT = 64
OPERATIONS = {
    "a + b": lambda a, b: a + b,
    "a - b": lambda a, b: a - b,
    "a * b": lambda a, b: a * b,
    "a & b": lambda a, b: a & b,
    "a | b": lambda a, b: a | b,
    "a ^ b": lambda a, b: a ^ b,
    "a << (b & 31)": lambda a, b: a << (b & 31),
    "a >> (b & 31)": lambda a, b: a >> (b & 31),
    "(uint32_t)((int32_t)a >> (b & 31))": lambda a, b: a.view("i4") >> (b & 31).view("i4"),
    "a < b": lambda a, b: a < b,
    "(int32_t)a < (int32_t)b": lambda a, b: a.view("i4") < b.view("i4"),
    "a / (b | 1)": lambda a, b: a // (b | 1),
    "a % (b | 1)": lambda a, b: a % (b | 1),
    "(uint32_t)((int32_t)a / (int32_t)(b | 1))": lambda a, b: truncated(a, b)[0],
    "(uint32_t)((int32_t)a % (int32_t)(b | 1))": lambda a, b: truncated(a, b)[1],
    "(uint32_t)(((uint64_t)a * b) >> 32)": lambda a, b: (a.astype("u8") * b) >> 32,
    "(uint32_t)(((uint64_t)a << 32 | b) / (b | 1))": (
        lambda a, b: (a.astype("u8") << 32 | b) // (b | 1)
    ),
    "(uint32_t)(((int64_t)(int32_t)a << 32) % (int64_t)(int32_t)(b | 1))": (
        lambda a, b: np.fmod(a.view("i4").astype("i8") << 32, (b | 1).view("i4").astype("i8"))
    ),
    "(uint32_t)(((uint64_t)a << 32 | b) >> (b & 63))": (
        lambda a, b: (a.astype("u8") << 32 | b) >> (b & 63).astype("u8")
    ),
    "product(a, b, sl_sl)": lambda a, b: part(a, "i1", 0) * part(b, "i1", 0),
    "product(a, b, sh_ul)": lambda a, b: part(a, "i1", 8) * part(b, "u1", 0),
    "product(a, b, uh_uh)": lambda a, b: part(a, "u1", 8) * part(b, "u1", 8),
    "counted(a, cao)": lambda a, b: np.bitwise_count(a),
    "counted(a, clz)": lambda a, b: np.array([32 - int(x).bit_length() for x in a]),
}


def truncated(a, b):
    """Quotient and remainder of int32 as C divides."""
    left, right = a.view("i4").astype("i8"), (b | 1).view("i4").astype("i8")
    return np.trunc(left / right).astype("i8"), np.fmod(left, right)


def part(values, kind, shift):
    return (values >> shift).astype("u1").view(kind).astype("i4")


PROGRAM = """
#include <qcc_dpu.h>
#define product(a, b, kinds) ({ int32_t d; __builtin_mul_##kinds##_rrr(d, a, b); (uint32_t)d; })
#define counted(a, what) ({ uint32_t d; __builtin_##what##_rr(d, a); d; })
__host uint32_t left[COUNT], right[COUNT];
__host uint32_t results[OPERATIONS][COUNT];
int main(void) {
    for (uint32_t i = 0; i < COUNT; ++i) {
        uint32_t a = left[i], b = right[i];
"""


def test_operations_compute_what_c_says(built):
    lines = [f"        results[{i}][i] = {text};\n" for i, text in enumerate(OPERATIONS)]
    source = PROGRAM + "".join(lines) + "    }\n    return 0;\n}\n"
    defines = (f"COUNT={COUNT}", f"OPERATIONS={len(OPERATIONS)}")
    program = DpuProgram("operations", source, 1, defines=defines)
    dpu = Dpu(program, build_rv32(program, built), built)
    draw = np.random.default_rng(5)
    a, b = (draw.integers(0, 1 << 32, COUNT, np.uint32) for _ in range(2))
    a[:4], b[:4] = [0, 1, 0x80000000, 0xFFFFFFFF], [0, 0xFFFFFFFE, 0x7FFFFFFF, 1]
    b[8:24] >>= 20
    dpu.write("left", a)
    dpu.write("right", b)
    dpu.launch()
    raw = np.frombuffer(dpu.read("results", 4 * COUNT * len(OPERATIONS)), np.uint32)
    for (text, meaning), got in zip(OPERATIONS.items(), raw.reshape(-1, COUNT), strict=True):
        want = np.asarray(meaning(a, b)).astype("i8").astype(np.uint32)
        np.testing.assert_array_equal(got, want, err_msg=text)


# An assembler loop of 1000 rounds, and the slots of one: pim.md §5.
LOOPS = {
    "addi %0, %0, -1; bnez %0, 1b": 1,  # decrement and jump
    "addi %0, %0, -1; lw t0, 0(%1); sw t0, 0(%1); bnez %0, 1b": 3,  # the decrement is near
    "addi %0, %0, -1; li t0, 0; bne %0, t0, 1b": 3,  # compared with a register
    "addi %0, %0, -1; slli t0, %0, 2; add t1, t0, %1; bnez %0, 1b": 2,  # lsl_add
    "addi %0, %0, -1; lui t0, 5; addi t0, t0, 7; bnez %0, 1b": 2,  # a constant
    "addi %0, %0, -1; lw t0, 0(%1); lw t1, 4(%1); bnez %0, 1b": 3,  # a pair: 2 where counted
    "and t0, %0, %1; beqz t0, 2f; 2: addi %0, %0, -1; bnez %0, 1b": 2,
}
LOOP = """
#include <defs.h>
static uint32_t pair[2] __attribute__((aligned(8)));
int main(void) {
    uint32_t n = 1000, *at = pair;
    __asm__ volatile("1: %s" : "+r"(n) : "r"(at) : "t0", "t1", "memory");
    return 0;
}
"""


def slots(text, built, pairs=False):
    program = DpuProgram("loop", LOOP % text.replace("; ", "\\n\\t"), 1)
    dpu = Dpu(program, build_rv32(program, built), built, pairs=pairs)
    ((kind, total),) = dpu.launch().traces[0]
    assert kind == "compute"
    return total


def test_issue_slots_are_those_of_a_dpu(built):
    for text, per_round in LOOPS.items():
        assert abs(slots(text, built) - 1000 * per_round) < 20, text


def test_pairs_are_counted_once_where_asked_for(built):
    text = "addi %0, %0, -1; lw t0, 0(%1); lw t1, 4(%1); bnez %0, 1b"
    assert abs(slots(text, built, pairs=True) - 2000) < 20


SERVICES = {
    "number = a * b;": (3 * 1000, 5, 5.5 + 3),
    "number = a / b;": (1000, 8, 7 + 6 + 1),
    "number = b / a;": (1000, 8, 6),
    "number = a % b;": (1000, 8, 7 + 6 + 1 + 1),
    "number = (uint32_t)((int32_t)a / -(int32_t)b);": (1000, 8, 7 + 6 + 1 + 12),
    "barrier_wait(&all);": (0, 0, 15),
    "number = (uint32_t)mem_alloc(8);": (0, 0, 12),
    "mem_reset();": (0, 0, 5),
    "mram_read(far_away, near_by, 8);": (0, 0, 3),
    "__builtin_memcpy(near_by, near_by + 512, 100);": (0, 0, 160),
}
SERVICE = """
#include <qcc_dpu.h>
BARRIER_INIT(all, NR_TASKLETS)
__mram_noinit uint8_t far_away[4096];
__host volatile uint32_t number, a, b;
static __dma_aligned uint8_t near_by[4096];
int main(void) {
#ifdef CALLED
    %s
#endif
    return (int)near_by[0];
}
"""


@pytest.mark.parametrize("text", SERVICES)
def test_services_cost_what_the_model_says(built, text):
    a, b, costs = SERVICES[text]
    totals = []
    for defines in ((), ("CALLED",)):
        program = DpuProgram("service", SERVICE % text, 1, defines=defines)
        dpu = Dpu(program, build_rv32(program, built), built)
        dpu.write("a", np.uint32(a).tobytes())
        dpu.write("b", np.uint32(b).tobytes())
        trace = dpu.launch().traces[0]
        totals.append(sum(value for kind, value in trace if kind == "compute"))
    glue = totals[1] - totals[0] - costs  # arguments, the call, spills: each a slot
    assert 1 <= glue <= 14
    assert glue == int(glue)


def test_what_does_not_fit_does_not_link(built):
    big = "#include <qcc_dpu.h>\n__host uint8_t big[50000];\nint main(void) { return big[7]; }\n"
    build_rv32(DpuProgram("big", big, 8), built)
    with pytest.raises(ResourceError, match="does not fit into WRAM") as caught:
        build_rv32(DpuProgram("big", big, 16), built)
    assert "16384" in caught.value.why
    body = '__asm__ volatile(".rept 5000\\n\\tnop\\n\\t.endr");'
    code = f"#include <defs.h>\nint main(void) {{ {body} return 0; }}\n"
    with pytest.raises(ResourceError, match="IRAM"):
        build_rv32(DpuProgram("long", code, 1), built)
    far = "#include <mram.h>\n__mram_noinit uint8_t far[9000];\nint main(void) { return 0; }\n"
    with pytest.raises(ResourceError, match="MRAM"):
        build_rv32(DpuProgram("far", far, 1, memories=Memories(mram_bytes=8192)), built)


def test_floats_have_no_runtime(built):
    text = "#include <qcc_dpu.h>\n__host float x;\nint main(void) { x *= 3; return 0; }\n"
    with pytest.raises(QccError, match="__mulsf3"):
        build_rv32(DpuProgram("floats", text, 1), built)


MIXED = """
#include <qcc_dpu.h>
void f(int8_t *a, int8_t *b);
void f(int8_t *a, int8_t *b) { mram_read(a, b, 8); }
"""


def test_pointers_into_mram_are_a_type_of_their_own():
    program = DpuProgram("mixed", MIXED)
    check_untyped(program)
    with pytest.raises(QccError, match="does not compile") as caught:
        check_types(program)
    assert "address space" in caught.value.why


def test_instructions_of_rv32m_are_refused(built):
    text = '#include <defs.h>\nint main(void) { __asm__(".word 0x02b50533"); return 0; }\n'
    program = DpuProgram("rv32m", text, 1)
    with pytest.raises(QccError, match="not of RV32I"):
        Dpu(program, build_rv32(program, built), built).launch()


def test_a_damaged_image_is_refused(built):
    program = DpuProgram("damaged", "int main(void) { return 0; }\n", 1)
    image = build_rv32(program, built)
    for end in (0, 10, 60, len(image) // 2, len(image) - 40):
        with pytest.raises(QccError, match="cannot be loaded"):
            Dpu(program, image[:end], built)
