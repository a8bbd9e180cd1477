"""Views of several dynamic sizes: which axes belong together, and that the values stay."""

from __future__ import annotations

import numpy as np
import pytest

from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.interpreter import interpret
from qcc.passes.explicit_views import equal_tails, explicit_views
from qcc.passes.lower_torch import lower_torch

ANY = ir.ShapedType.get_dynamic_size()


def program(before: str, after: str, sizes: str) -> str:
    """A view of %x; %a and %b are the sizes of the first axes of %y."""
    return f"""
      func.func @main(%x: !torch.vtensor<{before},f32>, %y: !torch.vtensor<[?,?],f32>)
          -> !torch.vtensor<{after},f32> {{
        %int0 = torch.constant.int 0
        %int1 = torch.constant.int 1
        %int4 = torch.constant.int 4
        %int6 = torch.constant.int 6
        %int24 = torch.constant.int 24
        %rest = torch.constant.int -1
        %a = torch.aten.size.int %y, %int0 : !torch.vtensor<[?,?],f32>, !torch.int -> !torch.int
        %b = torch.aten.size.int %y, %int1 : !torch.vtensor<[?,?],f32>, !torch.int -> !torch.int
        %s = torch.prim.ListConstruct {sizes}
          : ({", ".join(["!torch.int"] * len(sizes.split(",")))}) -> !torch.list<int>
        %r = torch.aten.view %x, %s
          : !torch.vtensor<{before},f32>, !torch.list<int> -> !torch.vtensor<{after},f32>
        return %r : !torch.vtensor<{after},f32>
      }}"""


VIEWS = [
    ("[?,?,24]", "[?,24]", "%rest, %int24", (3, 5, 24), (15, 24)),
    ("[?,24]", "[?,?,24]", "%a, %b, %int24", (6, 24), (2, 3, 24)),
    ("[?,24]", "[?,?,24]", "%a, %rest, %int24", (6, 24), (2, 3, 24)),
    ("[?,?,24]", "[?,?,4,6]", "%a, %b, %int4, %int6", (3, 2, 24), (2, 3, 4, 6)),
    ("[?,?,?]", "[?,?]", "%b, %rest", (3, 2, 4), (3, 8)),
    ("[?,?]", "[?,?,1]", "%b, %a, %int1", (2, 3), (3, 2, 1)),
    ("[?,1,?]", "[?,?]", "%b, %a", (2, 1, 3), (3, 2)),
]


@pytest.mark.parametrize(("before", "after", "sizes", "shape", "wanted"), VIEWS)
def test_a_view_keeps_the_order_of_its_elements(
    before: str, after: str, sizes: str, shape: tuple[int, ...], wanted: tuple[int, ...]
) -> None:
    with make_context(), ir.Location.unknown():
        module = ir.Module.parse(program(before, after, sizes))
        lower_torch(module.operation)
        x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        (result,) = interpret(module, [x, np.zeros((2, 3), np.float32)], _no_parameter)
    np.testing.assert_array_equal(result, x.reshape(wanted))


def test_no_view_is_left_to_guesses(check) -> None:
    # CHECK: %[[F:.*]] = torch.aten.flatten.using_ints %arg0
    # CHECK-SAME: -> !torch.vtensor<[?,24],f32>
    # CHECK: return %[[F]]
    check(rewritten(program("[?,?,24]", "[?,24]", "%rest, %int24")))


def test_one_dynamic_size_needs_no_guess(check) -> None:
    # CHECK-NOT: flatten
    # CHECK: torch.aten.view
    check(rewritten(program("[?,4,6]", "[?,24]", "%rest, %int24")))


def test_tails_of_equal_products() -> None:
    assert equal_tails([ANY, ANY, 64], [ANY, ANY, 4, 16]) == (2, 2)
    assert equal_tails([ANY, 6, 4], [ANY, ANY, 8]) == (3, 3)
    assert equal_tails([ANY, 2, 1, 3], [ANY, ANY, 6]) == (1, 2)


def rewritten(text: str) -> str:
    with make_context(), ir.Location.unknown():
        module = ir.Module.parse(text)
        explicit_views(module.operation)
        assert module.operation.verify()
        return str(module)


def _no_parameter(symbol: str) -> np.ndarray:
    raise AssertionError(symbol)
