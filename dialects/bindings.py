"""
The MLIR provider, named in this file alone.

The `torch-mlir` wheel carries the MLIR Python bindings, the `ext` layer for dialects written in
Python, and the torch dialect. Everything else in qcc imports MLIR from here.
"""

# The bindings carry no `py.typed` marker and resolve lazily; `Result` and `Context` are given to
# the type checker in the shape the run-time classes have.
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from torch_mlir import ir
from torch_mlir._mlir_libs import _mlir
from torch_mlir.dialects import (
    arith,
    bufferization,
    builtin,
    func,
    linalg,
    llvm,
    math,
    memref,
    scf,
    tensor,
    vector,
)
from torch_mlir.dialects import ext as ext
from torch_mlir.dialects import torch as torch_dialect
from torch_mlir.execution_engine import ExecutionEngine
from torch_mlir.ir import MLIRError, Operation, Value
from torch_mlir.passmanager import PassManager
from torch_mlir.rewrite import (
    PatternRewriter,
    RewritePatternSet,
    apply_patterns_and_fold_greedily,
)

# Without this MLIR searches for a module of the qcc dialect each time it meets one of its ops.
_mlir.globals.append_dialect_search_prefix(__package__)

T = TypeVar("T")

if TYPE_CHECKING:

    class Operand(Value[Any], Generic[T]): ...

    class Result(ir.OpResult, Generic[T]): ...

    class Context:
        def __enter__(self) -> "Context": ...

        def __exit__(self, *_: object) -> None: ...

        def is_registered_operation(self, operation_name: str) -> bool: ...
else:
    from torch_mlir.dialects.ext import Operand, Result
    from torch_mlir.ir import Context

__all__ = [
    "Context",
    "ExecutionEngine",
    "MLIRError",
    "Operand",
    "Operation",
    "PassManager",
    "PatternRewriter",
    "Result",
    "RewritePatternSet",
    "Value",
    "apply_patterns_and_fold_greedily",
    "arith",
    "bufferization",
    "builtin",
    "ext",
    "func",
    "ir",
    "linalg",
    "llvm",
    "math",
    "memref",
    "scf",
    "tensor",
    "torch_dialect",
    "vector",
]
