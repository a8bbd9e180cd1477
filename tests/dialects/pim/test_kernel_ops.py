"""Kernels of DPUs: their text comes back, and the verifier refuses what the hardware refuses."""

from collections.abc import Iterator

import pytest

from qcc.dialects.bindings import MLIRError, ir
from qcc.dialects.context import make_context
from qcc.dialects.pim.kernel import iram_instructions, mram_bytes, wram_bytes

KERNEL = """
"pim.kernel"() ({
^bb0(%x: !pim.mram<tensor<16x64xsi8>>, %y: !pim.mram<tensor<16x64xsi32>>, %n: i32):
  %row = "pim.wram_alloc"() {symbol = "row"} : () -> !pim.wram<tensor<64xsi8>, "private">
  %out = "pim.wram_alloc"() {symbol = "out"} : () -> !pim.wram<tensor<64xsi32>, "private">
  %me = "pim.tasklet"() : () -> i32
  %zero = "arith.constant"() {value = 0 : i32} : () -> i32
  %width = "arith.constant"() {value = 64 : i32} : () -> i32
  %rows = "arith.constant"() {value = 16 : i32} : () -> i32
  "pim.loop"(%me, %rows) ({
  ^bb1(%r: i32):
    %from = "arith.muli"(%r, %width) : (i32, i32) -> i32
    "pim.dma_in"(%x, %from, %row, %zero) {count = 64 : i64}
      : (!pim.mram<tensor<16x64xsi8>>, i32, !pim.wram<tensor<64xsi8>, "private">, i32) -> ()
    %sum = "pim.loop"(%zero, %width, %zero) ({
    ^bb2(%i: i32, %before: i32):
      %v = "pim.load"(%row, %i) {displacement = 0 : i64}
        : (!pim.wram<tensor<64xsi8>, "private">, i32) -> i32
      %square = "pim.mul8"(%v, %v) {left_byte = "low", right_byte = "low"} : (i32, i32) -> i32
      "pim.store"(%square, %out, %i) {displacement = 0 : i64}
        : (i32, !pim.wram<tensor<64xsi32>, "private">, i32) -> ()
      "pim.yield"(%square) : (i32) -> ()
    }) {step = 1 : i64, unroll = 8 : i64, variable = "i",
        operandSegmentSizes = array<i32: 1, 1, 1>, resultSegmentSizes = array<i32: 1>}
      : (i32, i32, i32) -> i32
    "pim.dma_out"(%out, %zero, %y, %from) {count = 64 : i64}
      : (!pim.wram<tensor<64xsi32>, "private">, i32, !pim.mram<tensor<16x64xsi32>>, i32) -> ()
    "pim.yield"() : () -> ()
  }) {step = 16 : i64, unroll = 1 : i64, variable = "row",
      operandSegmentSizes = array<i32: 1, 1, 0>, resultSegmentSizes = array<i32: 0>}
    : (i32, i32) -> ()
  "pim.return"() : () -> ()
}) {symbol = "squares", device = "v1A", tasklets = 16 : i64, stack = 1024 : i64,
    arguments = ["x", "y", "n"]} : () -> ()
"""
HOST = """
func.func @main(%x: tensor<20x8xsi8>) -> tensor<20x8xsi8> {
  %dpus = "pim.device"() {profile = "v1A"} : () -> !pim.dpus<2>
  %t = "pim.canonical_table"() {weights = array<i64: -1, 1>, activations = array<i64: -2, -1, 0, 1>,
    p = 3 : i64} : () -> tensor<20x8xsi8>
  "pim.broadcast"(%dpus, %t) {symbol = "table"} : (!pim.dpus<2>, tensor<20x8xsi8>) -> ()
  "pim.shard"(%dpus, %x) {symbol = "x", shard = tensor<10x8xsi8>,
    map = affine_map<(d, i, j) -> (d * 10 + i, j)>} : (!pim.dpus<2>, tensor<20x8xsi8>) -> ()
  "pim.launch"(%dpus) {kernel = "k"} : (!pim.dpus<2>) -> ()
  %y = "pim.gather"(%dpus) {symbol = "y", shard = tensor<10x8xsi8>,
    map = affine_map<(d, i, j) -> (d * 10 + i, j)>} : (!pim.dpus<2>) -> tensor<20x8xsi8>
  return %y : tensor<20x8xsi8>
}
"""


@pytest.fixture
def context() -> Iterator[None]:
    with make_context(), ir.Location.unknown():
        yield


@pytest.mark.parametrize("text", [KERNEL, HOST], ids=["kernel", "host"])
def test_text_comes_back(context: None, text: str) -> None:
    module = ir.Module.parse(text)
    assert module.operation.verify()
    assert str(ir.Module.parse(str(module))) == str(module)


def test_budgets_are_counted(context: None) -> None:
    module = ir.Module.parse(KERNEL)
    (kernel,) = module.body.operations
    assert wram_bytes(kernel) == 16 * (1024 + 64 + 4 * 64)
    assert mram_bytes(kernel) == 1024 + 4096
    assert 200 < iram_instructions(kernel) < 400


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("tasklets = 16", "tasklets = 25", "25 tasklets, v1A has 24"),
        ("tasklets = 16", "tasklets = 0", "0 tasklets"),
        ('"v1A"', '"v2"', "no UPMEM device"),
        ("stack = 1024", "stack = 4096", "bytes of WRAM, v1A has 65536"),
        ("stack = 1024", "stack = 1001", "multiple of 8"),
        ("16x64xsi8", "1600000x64xsi8", "bytes of MRAM, v1A has 67108864"),
        ("unroll = 8", "unroll = 7", "not whole unrolls of 7"),
        ("count = 64", "count = 60", "60 bytes; DMA moves 8 to 2048"),
        ("count = 64", "count = 128", "element 1087 of .* which has 1024"),
        ("muli", "addi", "not known to be a multiple of 8 bytes"),
        ('tensor<64xsi8>, "private"', 'tensor<64xsi8>, "mine"', "'mine' is private or shared"),
        ('left_byte = "low"', 'left_byte = "middle"', "is no byte"),
        ('"x", "y", "n"', '"x", "y"', "2 names for 3 arguments"),
        ("%x: !pim.mram<tensor<16x64xsi8>>, %y", "%x: !pim.mram<tensor<16x64xi8>>, %y", "si8|'x'"),
    ],
)  # fmt: skip
def test_the_verifier_refuses(context: None, old: str, new: str, message: str) -> None:
    assert old in KERNEL
    with pytest.raises(MLIRError, match=message):
        ir.Module.parse(KERNEL.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("p = 3", "p = 2", "the table is"),
        ("array<i64: -1, 1>", "array<i64: -1, 0, 1>", "no power of two"),
        ("(d * 10 + i, j)", "(d * 10 + i)", "does not take a DPU and 2 indices"),
        ("10x8xsi8", "10x7xsi8", "multiple of 8 bytes"),
        ("10x8xsi8", "10x8xf32", "multiple of 8 bytes"),
        ("dpus<2>", "dpus<20000>", "the machine has 2048"),
        ('"v1A"', '"v9"', "no UPMEM device"),
    ],
)  # fmt: skip
def test_host_ops_refuse(context: None, old: str, new: str, message: str) -> None:
    assert old in HOST
    with pytest.raises(MLIRError, match=message):
        ir.Module.parse(HOST.replace(old, new))
