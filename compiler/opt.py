"""`qcc opt`: run named passes on the text of a module."""

from __future__ import annotations

from pathlib import Path

from ..codegen.cpu.registry import PASSES as CPU_PASSES
from ..dialects.bindings import MLIRError, PassManager, ir
from ..dialects.context import make_context
from ..dialects.errors import UsageError
from ..passes.registry import PASSES
from .publish import make_folder, publish_bytes

KNOWN = PASSES | CPU_PASSES


def run_pipeline(text: str, pipeline: str, print_after_all: Path | None = None) -> str:
    """
    The module `text` after the passes of `pipeline`, separated by commas.

    A name in a registry is one of qcc's passes; anything else is given to MLIR. Raises
    UsageError for text that does not parse or verify, or an unknown pass.
    """
    with make_context(), ir.Location.unknown():
        try:
            module = ir.Module.parse(text)
        except (MLIRError, KeyError) as error:  # KeyError: a verifier misses a segment size
            raise UsageError("ir-invalid", "the module does not parse", why=str(error)) from error
        for index, name in enumerate(split_pipeline(pipeline)):
            _run(module, name)
            if print_after_all is not None:
                make_folder(print_after_all)
                file = print_after_all / f"{index}-{name.split('{')[0]}.mlir"
                publish_bytes(file, str(module).encode())
        return str(module)


def split_pipeline(pipeline: str) -> list[str]:
    """
    Names at the top level of a pipeline.

    >>> split_pipeline("raise-torch,func.func(canonicalize,cse),name-layers")
    ['raise-torch', 'func.func(canonicalize,cse)', 'name-layers']
    """
    names, depth, current = [], 0, ""
    for character in pipeline:
        depth += (character in "({") - (character in ")}")
        if character == "," and depth == 0:
            names.append(current)
            current = ""
        else:
            current += character
    return [name.strip() for name in (*names, current) if name.strip()]


def _run(module: ir.Module, name: str) -> None:
    try:
        if name in KNOWN:
            KNOWN[name](module.operation, None)
            module.operation.verify()
        else:
            PassManager.parse(f"builtin.module({name})").run(module.operation)
    except (MLIRError, ValueError) as error:
        raise UsageError(
            "pass-failed",
            f"pass '{name}' failed",
            why=str(error),
            next_step="`qcc list passes` names qcc's passes",
        ) from error
