"""Calls, structured control flow, assertions, globals, and what is refused."""

import tracemalloc
from functools import partial

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from qcc.dialects.bindings import ir
from qcc.dialects.errors import UnsupportedError, UsageError
from qcc.dialects.interpreter import interpret

f32 = partial(np.array, dtype=np.float32)
i64 = partial(np.array, dtype=np.int64)


def test_a_call_runs_with_values_of_its_own(run):
    text = """
    func.func private @square(%x: f32) -> f32 {
      %r = arith.mulf %x, %x : f32
      return %r : f32
    }
    func.func @main(%x: f32) -> f32 {
      %a = func.call @square(%x) : (f32) -> f32
      %b = func.call @square(%a) : (f32) -> f32
      %c = arith.addf %a, %b : f32
      return %c : f32
    }"""
    assert run(text, np.float32(3)) == [90]


def test_an_if_takes_one_branch(run):
    text = """
    func.func @main(%c: i1, %x: f32) -> f32 {
      %r = scf.if %c -> f32 {
        cf.assert %c, "never reached when false"
        scf.yield %x : f32
      } else {
        %n = arith.negf %x : f32
        scf.yield %n : f32
      }
      return %r : f32
    }"""
    assert run(text, np.array(True), np.float32(2)) == [2]
    assert run(text, np.array(False), np.float32(2)) == [-2]


def test_an_if_in_a_body_masks_each_branch(run):
    """The untaken branch would read outside the table."""
    text = """
    func.func @main(%t: tensor<3xf32>, %i: tensor<?xindex>, %o: tensor<?xf32>) -> tensor<?xf32> {
      %c3 = arith.constant 3 : index
      %zero = arith.constant 0.0 : f32
      %r = linalg.generic {indexing_maps = [affine_map<(n) -> (n)>, affine_map<(n) -> (n)>],
        iterator_types = ["parallel"]} ins(%i : tensor<?xindex>) outs(%o : tensor<?xf32>) {
      ^bb0(%a: index, %b: f32):
        %in = arith.cmpi ult, %a, %c3 : index
        %v = scf.if %in -> f32 {
          cf.assert %in, "inside"
          %e = tensor.extract %t[%a] : tensor<3xf32>
          scf.yield %e : f32
        } else {
          scf.yield %zero : f32
        }
        linalg.yield %v : f32
      } -> tensor<?xf32>
      return %r : tensor<?xf32>
    }"""
    table, index = f32([5, 6, 7]), i64([2, 9, 0, -1])
    assert_array_equal(run(text, table, index, np.zeros(4, np.float32))[0], [7, 0, 5, 0])


def test_for_carries_values(run):
    text = """
    func.func @main(%n: index, %x: tensor<3xf32>) -> (tensor<3xf32>, index) {
      %c0 = arith.constant 0 : index
      %c2 = arith.constant 2 : index
      %r:2 = scf.for %i = %c0 to %n step %c2 iter_args(%a = %x, %s = %c0)
          -> (tensor<3xf32>, index) {
        %d = arith.addf %a, %a : tensor<3xf32>
        %t = arith.addi %s, %i : index
        scf.yield %d, %t : tensor<3xf32>, index
      }
      return %r#0, %r#1 : tensor<3xf32>, index
    }"""
    values = f32([1, 2, 3])
    doubled, total = run(text, np.array(5), values)
    assert_array_equal(doubled, 8 * values)
    assert total == 0 + 2 + 4
    assert_array_equal(run(text, np.array(0), values)[0], values)


def test_while_hands_on_what_its_condition_hands_on(run):
    text = """
    func.func @main(%n: i64) -> (i64, i64) {
      %c1 = arith.constant 1 : i64
      %c2 = arith.constant 2 : i64
      %c3 = arith.constant 3 : i64
      %c0 = arith.constant 0 : i64
      %r:2 = scf.while (%a = %n, %k = %c0) : (i64, i64) -> (i64, i64) {
        %go = arith.cmpi ne, %a, %c1 : i64
        scf.condition(%go) %a, %k : i64, i64
      } do {
      ^bb0(%a: i64, %k: i64):
        %odd = arith.remsi %a, %c2 : i64
        %h = arith.divsi %a, %c2 : i64
        %t = arith.muli %a, %c3 : i64
        %u = arith.addi %t, %c1 : i64
        %is = arith.cmpi eq, %odd, %c1 : i64
        %next = arith.select %is, %u, %h : i64
        %count = arith.addi %k, %c1 : i64
        scf.yield %next, %count : i64, i64
      }
      return %r#0, %r#1 : i64, i64
    }"""
    assert run(text, np.array(27)) == [1, 111]


def test_an_assertion_is_the_users_error(run):
    text = """
    func.func @main(%c: i1) {
      cf.assert %c, "lengths must be equal"
      return
    }"""
    assert run(text, np.array(True)) == []
    with pytest.raises(UsageError, match="lengths must be equal") as caught:
        run(text, np.array(False))
    assert caught.value.code == "assertion-failed"


def test_globals_are_loaded_and_stored(run):
    text = """
    ml_program.global private mutable @seed(dense<41> : tensor<i64>) : tensor<i64>
    func.func @main(%x: tensor<i64>) -> (tensor<i64>, tensor<i64>) {
      %a = ml_program.global_load @seed : tensor<i64>
      %b = arith.addi %a, %x : tensor<i64>
      ml_program.global_store @seed = %b : tensor<i64>
      %c = ml_program.global_load @seed : tensor<i64>
      return %a, %c : tensor<i64>, tensor<i64>
    }"""
    for _ in range(2):  # each run starts from the module
        assert run(text, np.array(1)) == [41, 42]


def test_a_cast_that_changes_nothing(run):
    text = """
    func.func @main(%x: tensor<2xf32>) -> tensor<?xf32> {
      %r = builtin.unrealized_conversion_cast %x : tensor<2xf32> to tensor<?xf32>
      return %r : tensor<?xf32>
    }"""
    assert_array_equal(run(text, f32([1, 2]))[0], [1, 2])
    with pytest.raises(UnsupportedError, match="no rule to cast tensor<2xf32> to tensor<2xi64>"):
        run(text.replace("?xf32", "2xi64"), f32([1, 2]))


def test_an_unknown_op_is_named_with_its_place(run):
    text = """
    func.func @main(%x: index) -> index {
      %r = index.add %x, %x
      return %r : index
    }"""
    with pytest.raises(UnsupportedError, match=r"no rule for index\.add") as caught:
        run(text, np.array(4))
    assert caught.value.code == "interpreter-op"
    assert caught.value.where == "-:3"


def test_branches_between_blocks_are_refused(run):
    text = """
    func.func @main(%c: i1) -> i1 {
      cf.cond_br %c, ^a, ^b
    ^a:
      return %c : i1
    ^b:
      %n = arith.addi %c, %c : i1
      return %n : i1
    }"""
    with pytest.raises(UnsupportedError, match=r"func\.func has 3 blocks"):
        run(text, np.array(True))


def test_loop_bounds_that_vary_in_a_body_are_refused(run):
    text = """
    func.func @main(%n: tensor<2xindex>, %o: tensor<2xindex>) -> tensor<2xindex> {
      %c0 = arith.constant 0 : index
      %c1 = arith.constant 1 : index
      %r = linalg.generic {indexing_maps = [affine_map<(n) -> (n)>, affine_map<(n) -> (n)>],
        iterator_types = ["parallel"]} ins(%n : tensor<2xindex>) outs(%o : tensor<2xindex>) {
      ^bb0(%a: index, %b: index):
        %s = scf.for %i = %c0 to %a step %c1 iter_args(%t = %c0) -> index {
          scf.yield %i : index
        }
        linalg.yield %s : index
      } -> tensor<2xindex>
      return %r : tensor<2xindex>
    }"""
    with pytest.raises(UnsupportedError, match="differ from element to element"):
        run(text, i64([1, 2]), i64([0, 0]))


IDENTITY = """
func.func @main(%x: tensor<?x3xf32>) -> tensor<?x3xf32> {
  return %x : tensor<?x3xf32>
}
func.func private @elsewhere(tensor<2xf32>) -> tensor<2xf32>
"""


@pytest.mark.parametrize(
    ("inputs", "code"),
    [
        ([], "input-count"),
        ([np.zeros((2, 4), np.float32)], "input-shape"),
        ([np.zeros(3, np.float32)], "input-shape"),
        ([np.zeros((2, 3), np.float64)], "input-type"),
    ],
)
def test_inputs_that_do_not_fit(run, inputs, code):
    with pytest.raises(UsageError) as caught:
        run(IDENTITY, *inputs)
    assert caught.value.code == code


def test_functions_by_name(context):
    with context, ir.Location.unknown():
        module = ir.Module.parse(IDENTITY)
    with pytest.raises(UsageError, match="no function @forward"):
        interpret(module, [], {}.__getitem__, "forward")
    with pytest.raises(UsageError, match="no function @elsewhere"):
        interpret(module, [np.zeros(2, np.float32)], {}.__getitem__, "elsewhere")


def test_values_are_dropped_after_their_last_use(run):
    """A chain of a hundred 8 MB tensors stays within a few of them."""
    steps = "\n".join(f"%{i + 1} = arith.addf %{i}, %{i} : tensor<2000000xf32>" for i in range(100))
    text = f"""
    func.func @main(%0: tensor<2000000xf32>) -> tensor<2000000xf32> {{
      {steps.replace("%0,", "%arg,").replace("%0 ", "%arg ")}
      return %100 : tensor<2000000xf32>
    }}""".replace("(%0:", "(%arg:")
    values = np.zeros(2000000, np.float32)
    tracemalloc.start()
    run(text, values)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40e6


def test_a_parameter_is_read_where_it_is_needed(run):
    """All parameters stand first in a program: read there, a model would be in memory whole."""
    text = """
    func.func @main(%x: tensor<2x2xf32>) -> tensor<2x2xf32> {
      %a = "qcc.param"() {symbol = "a"} : () -> tensor<2x2xf32>
      %b = "qcc.param"() {symbol = "b"} : () -> tensor<2x2xf32>
      %y = arith.addf %x, %b : tensor<2x2xf32>
      %z = arith.addf %y, %a : tensor<2x2xf32>
      return %z : tensor<2x2xf32>
    }"""
    read: list[str] = []

    class Weights(dict[str, np.ndarray]):
        def __getitem__(self, symbol: str) -> np.ndarray:
            read.append(symbol)
            return np.eye(2, dtype=np.float32)

    run(text, f32([[1, 2], [3, 4]]), params=Weights(a=np.eye(2)))
    assert read == ["b", "a"]
