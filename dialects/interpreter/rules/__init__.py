"""Op name → rule, a file a dialect; an op without a rule is an UnsupportedError."""

from ..frame import Rule
from . import affine, arith, calls, complex, linalg, math, qcc, scf, tensor, tm_tensor

RULES: dict[str, Rule] = {
    **affine.RULES,
    **arith.RULES,
    **math.RULES,
    **tensor.RULES,
    **linalg.RULES,
    **scf.RULES,
    **calls.RULES,
    **complex.RULES,
    **tm_tensor.RULES,
    **qcc.RULES,
}
