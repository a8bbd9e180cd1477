"""Formats that a user could define and no built-in one is like: scales of rows and of tensors."""

from qcc.dialects.formats import from_definition

E2M1 = "element minifloat exponent=2 mantissa=1;"
WIDE = "element minifloat exponent=5 mantissa=2 specials=none;"
"""Up to 114688: halves hold them divided by a power of two."""
INT4 = "element integer bits=4 signed=true range=symmetric;"
SIGNED = "scale above type={0} rule={1} of=positive; scale below type={0} rule={1} of=negative;"
SCALED = "scale s type={0} rule={1};"
BODIES = {
    "signs_by_row": E2M1 + SIGNED.format("fp32", "absmax"),
    "signs_by_row_e8m0": E2M1 + SIGNED.format("e8m0", "ceil"),
    "signs_of_tensor": E2M1 + SIGNED.format("fp32", "absmax") + "block size=tensor;",
    "signs_of_tensor_e4m3": E2M1 + SIGNED.format("e4m3", "absmax") + "block size=tensor;",
    "rows_e8m0": INT4 + SCALED.format("e8m0", "ceil"),
    "rows_e4m3": E2M1 + SCALED.format("e4m3", "absmax"),
    "tensor_e5m2": E2M1 + SCALED.format("e5m2", "absmax") + "block size=tensor;",
    "blocks_without_scales": WIDE + "block size=8;",
    "tensor_e8m0": INT4 + SCALED.format("e8m0", "ceil") + "block size=tensor;",
}
OWN = {
    name: from_definition(f"format {name} {{ {body} }}").spelling for name, body in BODIES.items()
}
"""Their spellings by name."""
