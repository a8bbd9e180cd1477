"""Reading parameters through a view of their formats."""

from __future__ import annotations

from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.formats import from_definition
from qcc.passes.select_view import ViewSelection, select_view

OWN = from_definition("""
format halves {
  title "nested halves of a user, with a scale that the view forgets";
  element nested;
  admit max_abs=1.5 limit=1.875;
  view fp8_e4m3 part=upper scale=0.0078125;
}""").spelling
TEXT = """
func.func @main() -> (tensor<3x4xf32>, tensor<2xf32>) {
  %a = "qcc.param"() {symbol = "a"} : () -> !qcc.packed<tensor<3x4xf32>, "FORMAT">
  %y = "qcc.dequantize"(%a) : (!qcc.packed<tensor<3x4xf32>, "FORMAT">) -> tensor<3x4xf32>
  %b = "qcc.param"() {symbol = "b"} : () -> tensor<2xf32>
  return %y, %b : tensor<3x4xf32>, tensor<2xf32>
}"""


def selected(spelling: str, view: str | None) -> str:
    with make_context(), ir.Location.unknown():
        module = ir.Module.parse(TEXT.replace("FORMAT", spelling))
        select_view(ViewSelection(view))(module.operation, None)
        assert module.operation.verify()
        return str(module)


def test_options_of_the_format_are_kept(check) -> None:
    # CHECK: "nestedfp16<threshold=1.5,view=fp8_e4m3>">
    # CHECK: "qcc.dequantize"{{.*}}"nestedfp16<threshold=1.5,view=fp8_e4m3>">
    # CHECK: "qcc.param"() {symbol = "b"} : () -> tensor<2xf32>
    check(selected("nestedfp16<threshold=1.5>", "fp8_e4m3"))


def test_a_format_of_the_user_has_its_views(check) -> None:
    # CHECK: "qcc.param"() {symbol = "a"} {{.*}} "halves@{{[0-9a-f]+}}<view=fp8_e4m3>">
    check(selected(OWN, None))


def test_another_view_changes_nothing(check) -> None:
    # CHECK-NOT: view=
    # CHECK: return
    check(selected("nestedfp16", "int4"))


def test_a_view_has_no_further_views(check) -> None:
    # CHECK: "nestedfp16<view=fp8_e4m3>">
    check(selected("nestedfp16<view=fp8_e4m3>", None))
