"""
How a program's inputs and outputs nest: the pytree text of a `.pt2` file, read as data.

Tuples, lists and dicts are rebuilt; named tuples and other registered classes of an output become
plain tuples or dicts, so that no class is ever looked up by a name from a file.
"""

from __future__ import annotations

import keyword
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import msgspec
from torch.export.exported_program import ModuleCallEntry, ModuleCallSignature
from torch.export.graph_signature import ArgumentSpec
from torch.utils import _pytree as pytree

from ...dialects.errors import UnsupportedError
from .pt2_arguments import malformed
from .pt2_schema import CallSignature

_SPEC_VERSION = 1
_MAX_DEPTH = 64
_LEAF = object()
_DICTS = {"builtins.dict": dict, "collections.OrderedDict": OrderedDict}


class _Spec(msgspec.Struct, forbid_unknown_fields=True):
    type: str | None
    context: str | None
    children_spec: list[_Spec]


def call_entry(
    signature: CallSignature, inputs: list[ArgumentSpec], outputs: list[ArgumentSpec]
) -> ModuleCallEntry:
    """The calling convention of the whole program, for `ExportedProgram.module_call_graph`."""
    example = _rebuild(_parse(signature.in_spec), 0)
    if not _is_call(example):
        malformed("the inputs are not a tuple of arguments and a dict of keywords")
    in_spec, out_spec = pytree.tree_structure(example), _structure(signature.out_spec)
    if in_spec.num_leaves != len(inputs) or out_spec.num_leaves != len(outputs):
        malformed("the nesting of inputs or outputs does not match their number")
    return ModuleCallEntry(
        fqn="",
        signature=ModuleCallSignature(
            inputs=inputs,
            outputs=outputs,
            in_spec=in_spec,
            out_spec=out_spec,
            forward_arg_names=_argument_names(signature, example),
        ),
    )


def _structure(text: str) -> pytree.TreeSpec:
    return pytree.tree_structure(_rebuild(_parse(text), 0))


def _parse(text: str) -> _Spec:
    try:
        version, spec = msgspec.json.decode(text, type=tuple[int, _Spec])
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        malformed(f"the nesting of inputs or outputs cannot be read: {error}")
    if version != _SPEC_VERSION:
        malformed(f"the nesting of inputs or outputs is in version {version}")
    return spec


def _rebuild(spec: _Spec, depth: int) -> Any:
    """A Python object with that nesting and placeholders for leaves."""
    if depth > _MAX_DEPTH:
        malformed("inputs or outputs are nested too deeply")
    if spec.type is None:
        return _LEAF
    children = [_rebuild(child, depth + 1) for child in spec.children_spec]
    if spec.type == "builtins.list":
        return children
    if spec.type in _DICTS or _has_keys(spec):
        keys = _keys(spec)
        return _DICTS.get(spec.type, dict)(zip(keys, children, strict=True))
    return tuple(children)


def _has_keys(spec: _Spec) -> bool:
    return bool(spec.context) and len(list(_text_keys(spec))) == len(spec.children_spec) > 0


def _keys(spec: _Spec) -> list[str]:
    keys = list(_text_keys(spec))
    if len(keys) != len(spec.children_spec) or len(set(keys)) != len(keys):
        malformed("a dict of inputs or outputs has other keys than values")
    return keys


def _text_keys(spec: _Spec) -> Iterator[str]:
    try:
        keys = msgspec.json.decode(spec.context or "[]")
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return
    if isinstance(keys, list) and all(isinstance(key, str) for key in keys):
        yield from keys


def _is_call(example: Any) -> bool:
    if not isinstance(example, tuple) or len(example) != 2:
        return False
    args, kwargs = example
    return isinstance(args, tuple) and isinstance(kwargs, dict) and all(map(_is_name, kwargs))


def _argument_names(signature: CallSignature, example: Any) -> list[str] | None:
    names = signature.forward_arg_names
    if names is None:
        return None
    if not all(map(_is_name, names)):
        raise UnsupportedError(
            "pt2-argument-name",
            "an argument of forward() has a name that Python reserves",
            next_step="rename it and export again",
        )
    if len(names) != len(set(names)) or len(names) < len(example[1]):
        malformed("the names of forward()'s arguments do not match its inputs")
    return list(names)


def _is_name(text: str) -> bool:
    return text.isidentifier() and not keyword.iskeyword(text)
