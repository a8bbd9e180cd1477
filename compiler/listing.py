"""
What `qcc list` shows, found without loading it.

Passes and ops are read off their sources, recipes off their TOML: importing them would load MLIR
or NumPy, and a list has to be quick.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

from .targets import TARGETS

_ROOT = Path(__file__).parent.parent


def formats() -> dict[str, str]:
    from ..dialects.formats import available

    return available()


def passes() -> dict[str, str]:
    """The keys of PASSES in every registry, each with the summary of its own file."""
    found = {}
    for registry in (_ROOT / "passes" / "registry.py", *_ROOT.glob("codegen/*/registry.py")):
        for name in _registered(registry):
            stem = registry.with_name(f"{name.replace('-', '_')}.py")
            found[name] = _summary(_parsed(stem)) if stem.is_file() else ""
    return dict(sorted(found.items()))


def recipes() -> dict[str, str]:
    """Built-in recipes and their descriptions."""
    found = {}
    for path in sorted((_ROOT / "compiler" / "recipes").glob("*.toml")):
        found[path.stem] = tomllib.loads(path.read_text("utf-8")).get("description", "")
    return found


def ops() -> dict[str, str]:
    """Ops of every dialect folder, as `dialect.op`, with the summary of their docstrings."""
    found = {}
    for index in sorted((_ROOT / "dialects").glob("*/dialect.py")):
        for path in sorted(index.parent.glob("*.py")):
            for name, summary in _ops_of(_parsed(path)):
                found[f"{index.parent.name}.{name}"] = summary
    return dict(sorted(found.items()))


def targets() -> dict[str, str]:
    return TARGETS


KINDS: dict[str, Callable[[], dict[str, str]]] = {
    "formats": formats,
    "ops": ops,
    "passes": passes,
    "recipes": recipes,
    "targets": targets,
}


def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def _summary(node: ast.Module | ast.ClassDef) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join((ast.get_docstring(node) or "").partition("\n\n")[0].split())


def _registered(path: Path) -> Iterator[str]:
    for node in ast.walk(_parsed(path)):
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Dict):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Name) and target.id == "PASSES" for target in targets):
                for key in node.value.keys:
                    if isinstance(key, ast.Constant) and isinstance(key.value, str):
                        yield key.value


def _ops_of(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Classes written as `class FooOp(Dialect.Operation, name="foo")`."""
    for node in tree.body:
        if not isinstance(node, ast.ClassDef):
            continue
        if not any(isinstance(b, ast.Attribute) and b.attr == "Operation" for b in node.bases):
            continue
        for keyword in node.keywords:
            if keyword.arg == "name" and isinstance(keyword.value, ast.Constant):
                yield str(keyword.value.value), _summary(node)
