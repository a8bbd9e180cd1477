"""
Programs from PyTorch modules: the user's own code, exported without holding its parameters.

A factory that comes with a weight file is run with parameters on the meta device, so a model of
any size costs no memory, while buffers keep their real values: tables that `__init__` computes
(rotary embeddings, masks) exist nowhere else. Before export the parameters become fake tensors on
the CPU, because code in `forward` mixes them with tensors that it makes itself.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import logging
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from ...dialects.errors import QccError, UnsupportedError, UsageError
from ..out_of_memory import out_of_memory, ran_out
from .reasons import tracing_advice, tracing_reason
from .torch_weights import to_torch

_CONSTRUCTION = threading.Lock()


@dataclass(frozen=True)
class Sample:
    """A module with the inputs to trace it and its dynamic axes (None: all static)."""

    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    dynamic_shapes: Any


def call_factory(spec: str, *, without_parameters: bool, example_inputs: Any = None) -> Sample:
    """
    Import `module:factory` or `path/file.py:factory` and call it without arguments.

    The factory returns a module, `(module, inputs)` or `(module, inputs, dynamic_shapes)`. What is
    left out is asked of functions `example_inputs()` and `dynamic_shapes()`: methods of the module,
    or else beside the factory. `example_inputs` given by the caller wins. Raises UsageError when
    any of this is missing or fails.
    """
    factory = find_callable(spec)
    try:
        if without_parameters:
            with parameters_on_meta():
                made = factory()
        else:
            made = factory()
    except QccError:
        raise
    except Exception as error:
        if ran_out(error):
            raise out_of_memory() from error
        raise UsageError(
            "factory-failed",
            f"'{spec}' raised {type(error).__name__}: {error}",
            where=_user_frame(error),
            next_step="call the factory by itself in Python and mend it first",
        ) from error
    parts = tuple(made) if isinstance(made, tuple | list) else (made,)
    if not parts or not isinstance(parts[0], nn.Module) or len(parts) > 3:
        raise UsageError(
            "factory-result",
            f"'{spec}' returned {type(made).__name__}",
            next_step="return a module, (module, inputs) or (module, inputs, dynamic_shapes)",
        )
    return _sample(spec, parts, sys.modules.get(factory.__module__), example_inputs)


def export(sample: Sample, name: str) -> ExportedProgram:
    """
    torch.export.export in inference mode; parameters on the meta device become fake first.

    The module's own training flags and parameters are left as they were. Raises UnsupportedError
    naming the user's line when tracing fails.
    """
    modes = {module: module.training for module in sample.module.modules()}
    sample.module.eval()
    try:
        with fake_parameters(sample.module), _without_torch_report():
            return torch.export.export(
                sample.module,
                *pytree.tree_map(_on_cpu, (sample.args, sample.kwargs)),
                dynamic_shapes=sample.dynamic_shapes,
            )
    except Exception as error:
        if ran_out(error):
            raise out_of_memory() from error
        raise UnsupportedError(
            "export-failed",
            f"{name} cannot be traced by torch.export",
            where=_user_frame(error),
            why=tracing_reason(error),
            next_step=tracing_advice(error),
        ) from error
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def _without_torch_report() -> Iterator[None]:
    """
    What torch prints about a failure is kept from the terminal: the error says it in brief.

    Anything else that is written to standard error appears when the block ends.
    """
    logger = logging.getLogger("torch.fx.experimental.symbolic_shapes")
    level, held, graph = logger.level, io.StringIO(), ""
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stderr(held):
            yield
    except Exception as error:
        graph = f"{getattr(error, 'partial_fx_graph', '')}\n"
        raise
    finally:
        logger.setLevel(level)
        sys.stderr.write(held.getvalue().replace(graph, "") if graph else held.getvalue())


@contextmanager
def parameters_on_meta() -> Iterator[None]:
    """
    Within the block every parameter that a module registers is emptied onto the meta device.

    The Parameter object stays the same, so ties and references made in `__init__` survive;
    buffers and plain tensors are untouched. Initialization of meta parameters does nothing.
    """
    original = nn.Module.register_parameter

    def register(self: nn.Module, name: str, param: nn.Parameter | None) -> None:
        if param is not None and not param.is_meta:
            empty = torch.empty_like(param, device="meta")
            torch.utils.swap_tensors(param, nn.Parameter(empty, param.requires_grad))
        original(self, name, param)

    with _CONSTRUCTION:
        nn.Module.register_parameter = register
        try:
            yield
        finally:
            nn.Module.register_parameter = original


@contextmanager
def fake_parameters(module: nn.Module) -> Iterator[None]:
    """Within the block the module's meta parameters and buffers are fake CPU tensors."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    made: dict[int, torch.Tensor] = {}
    replaced: list[tuple[nn.Module, str, torch.Tensor]] = []
    for owner in module.modules():
        for name, tensor in (*owner._parameters.items(), *owner._buffers.items()):
            if tensor is not None and tensor.is_meta and not isinstance(tensor, FakeTensor):
                replaced.append((owner, name, tensor))
                if id(tensor) not in made:
                    made[id(tensor)] = _faked(mode, tensor)
    # setattr, not the tables: recurrent modules keep a second list of their parameters.
    try:
        for owner, name, tensor in replaced:
            setattr(owner, name, made[id(tensor)])
        yield
    finally:
        for owner, name, tensor in replaced:
            setattr(owner, name, tensor)


def _faked(mode: FakeTensorMode, tensor: torch.Tensor) -> torch.Tensor:
    fake = FakeTensor(mode, tensor.detach(), torch.device("cpu"))
    return nn.Parameter(fake, requires_grad=False) if isinstance(tensor, nn.Parameter) else fake


def _on_cpu(value: Any) -> Any:
    """An example input as a CPU tensor: NumPy arrays converted, meta tensors as zeros."""
    if isinstance(value, np.ndarray):
        return to_torch(value.copy())
    if isinstance(value, torch.Tensor) and value.is_meta:
        return torch.zeros_like(value, device="cpu")
    return value


def _sample(
    spec: str, parts: tuple[Any, ...], home: ModuleType | None, example_inputs: Any
) -> Sample:
    module = parts[0]
    owners = (module, home)
    inputs = example_inputs
    if inputs is None:
        inputs = parts[1] if len(parts) > 1 else _first(owners, "example_inputs")
    if inputs is None:
        raise UsageError(
            "example-inputs-missing",
            f"'{spec}' gives a module but no inputs to trace it with",
            next_step="return (module, inputs), or write example_inputs() beside the factory",
        )
    args, kwargs = as_call(inputs)
    shapes = parts[2] if len(parts) > 2 else _first(owners, "dynamic_shapes")
    return Sample(module, args, kwargs, shapes)


def as_call(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """
    Arguments and keywords from what users hand over: a tensor, a tuple or list, or a dict.

    >>> as_call({"x": 1}), as_call([1, 2])
    (((), {'x': 1}), ((1, 2), {}))
    """
    if isinstance(inputs, dict):
        return (), dict(inputs)
    if isinstance(inputs, tuple | list):
        return tuple(inputs), {}
    return (inputs,), {}


def _first(owners: tuple[object, ...], name: str) -> Any:
    """What the first function of that name returns, None if no owner has one."""
    functions = (getattr(owner, name, None) for owner in owners)
    function = next(filter(callable, functions), None)
    return function() if function else None


def find_callable(spec: str) -> Any:
    """
    What `package.module:name` or `path/file.py:name` names, after importing it: the user's code.

    Raises UsageError where there is no such module or nothing callable of that name.
    """
    place, _, name = spec.rpartition(":")
    if not place or not name.isidentifier():
        raise UsageError(
            "model-spec",
            f"'{spec}' is neither a file nor module:factory",
            next_step="give a .pt2 file, or package.module:function, or file.py:function",
        )
    try:
        module = _load_file(Path(place)) if place.endswith(".py") else _import_name(place)
    except Exception as error:
        raise UsageError(
            "factory-import",
            f"'{place}' cannot be imported: {type(error).__name__}: {error}",
            where=_user_frame(error),
            next_step="check the name; modules are found from the working directory, and what a "
            "file imports also beside it",
        ) from error
    factory = getattr(module, name, None)
    if not callable(factory):
        raise UsageError(
            "factory-missing",
            f"'{place}' has no function '{name}'",
            next_step="check the spelling after the colon",
        )
    return factory


def _import_name(name: str) -> ModuleType:
    with _importing_from(Path.cwd()):
        return importlib.import_module(name)


@contextmanager
def _importing_from(*folders: Path) -> Iterator[None]:
    """Within the block modules are also found in `folders`, the first of them first."""
    added = [str(folder) for folder in folders]
    sys.path[:0] = added
    try:
        yield
    finally:
        for folder in added:
            sys.path.remove(folder)


def _load_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"qcc_user_{path.stem}", path)
    if spec is None or spec.loader is None or not path.exists():
        raise FileNotFoundError(f"no file '{path}'")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    with _importing_from(path.resolve().parent, Path.cwd()):
        spec.loader.exec_module(module)
    return module


def _user_frame(error: BaseException) -> str:
    """The innermost line of the traceback that belongs neither to torch nor to qcc."""
    own = str(Path(__file__).resolve().parent)
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        place = str(Path(frame.filename).resolve())
        library = any(part in place for part in ("/torch/", "/importlib/", "<frozen", own))
        if not library and Path(place).exists():
            return f"{frame.filename}:{frame.lineno}: {frame.line}"
    return ""
