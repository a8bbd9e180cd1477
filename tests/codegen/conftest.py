"""Programs of many functions, compiled once a module and held against the interpreter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from unittest.mock import patch

import numpy as np
import pytest

from qcc.codegen.cpu import library
from qcc.codegen.cpu.build import build_object
from qcc.codegen.cpu.lower import lower_to_llvm
from qcc.codegen.cpu.runtime import BufferType, CompiledObject
from qcc.dialects.bindings import Context, ir
from qcc.dialects.context import make_context
from qcc.dialects.formats import parse_spelling
from qcc.dialects.formats.panels import to_panels
from qcc.dialects.formats.tap_panels import to_tap_panels
from qcc.dialects.interpreter import interpret

F32 = np.dtype(np.float32)
THREADS = (1, 2, 5)


def tensor(*shape: int | None, element: str = "f32") -> str:
    """The text of a tensor type; None is a dynamic size."""
    return f"tensor<{'x'.join([*('?' if n is None else str(n) for n in shape), element])}>"


@dataclass
class Programs:
    """Functions by name and the parameters they read; compiled together, at the first run."""

    functions: dict[str, str] = field(default_factory=dict)
    stored: dict[str, np.ndarray] = field(default_factory=dict)
    decoded: dict[str, np.ndarray] = field(default_factory=dict)
    context: Context = field(default_factory=make_context)
    features: Sequence[str] | None = None

    def parameter(
        self,
        symbol: str,
        values: np.ndarray,
        spelling: str | None = None,
        panels: bool = False,
        taps: bool = False,
    ) -> str:
        """Register a parameter, maybe in a layout; returns the type its `qcc.param` has."""
        plain = tensor(*values.shape)
        if spelling is None:
            self.stored[symbol] = self.decoded[symbol] = values
            return plain
        fmt = parse_spelling(spelling)
        rows = values.reshape(values.shape[0], -1)
        parts = fmt.encode_rows(rows)
        stored = to_panels(fmt, parts, rows.shape[1]) if panels else parts
        if taps:
            stored = to_tap_panels(fmt, parts, values.shape)
        self.stored |= {f"{symbol}/{role}": part for role, part in stored.items()}
        self.decoded[symbol] = fmt.decode_rows(parts, rows.shape[1]).reshape(values.shape)
        return f'!qcc.packed<{plain}, "{fmt.spelling}">'

    def function(self, name: str, signature: str, body: str) -> None:
        self.functions[name] = f"func.func @{name}{signature} {{\n{body}\n}}"

    @cached_property
    def code(self) -> tuple[bytes, list[str]]:
        # Layers as small as these would be left to one thread.
        shared = patch.object(library, "SMALL", 0)
        with make_context(), ir.Location.unknown(), shared:
            module = ir.Module.parse("\n".join(self.functions.values()))
            parts = lower_to_llvm(module, self.features).parameters.names
            return build_object(module), parts

    @cached_property
    def objects(self) -> dict[int, CompiledObject]:
        """The compiled code by number of threads."""
        code, parts = self.code
        parameters = [self.stored[part] for part in parts]
        return {threads: CompiledObject(code, parameters, threads) for threads in THREADS}

    def run(self, name: str, *inputs: np.ndarray, rank: int) -> Mapping[int, np.ndarray]:
        """The function's one fp32 result by number of threads."""
        type_ = BufferType(F32, rank)
        return {
            threads: object_.call(name, inputs, [type_])[0]
            for threads, object_ in self.objects.items()
        }

    def expected(self, name: str, *inputs: np.ndarray) -> np.ndarray:
        with self.context, ir.Location.unknown():
            module = ir.Module.parse(self.functions[name])
            return interpret(module, inputs, self.decoded.__getitem__, name)[0]

    def check(self, name: str, *inputs: np.ndarray, bound: np.ndarray) -> np.ndarray:
        """
        Compare with the interpreter, element by element within `bound`, for every thread count.

        Threads share out whole tiles, so their number changes no bit. Returns the expected values.
        """
        expected = self.expected(name, *inputs)
        results = self.run(name, *inputs, rank=expected.ndim)
        first = results[THREADS[0]]
        assert first.shape == expected.shape
        for found in results.values():
            np.testing.assert_array_equal(found, first)
        error = np.abs(first.astype(np.float64) - expected)
        limit = np.broadcast_to(bound, error.shape)
        worst = np.argmax(error - limit) if error.size else 0
        assert (error <= limit).all(), (
            f"{name}: {first.flat[worst]!r} is not {expected.flat[worst]!r} "
            f"within {limit.flat[worst]:.3g}"
        )
        return expected


@pytest.fixture(scope="module")
def make_programs() -> Iterator[Callable[[Sequence[str] | None], Programs]]:
    """make_programs(features): programs for a processor with these, None for this one's."""
    made: list[Programs] = []

    def make(features: Sequence[str] | None) -> Programs:
        made.append(Programs(features=features))
        return made[-1]

    yield make
    for programs in made:
        for object_ in programs.objects.values():
            object_.close()


@pytest.fixture(scope="module")
def programs(make_programs) -> Programs:
    return make_programs(None)


MakeFloats = Callable[..., np.ndarray]


@pytest.fixture(scope="session")
def floats() -> MakeFloats:
    """floats(shape, seed=0): normal fp32 numbers."""

    def make(*shape: int, seed: int = 0) -> np.ndarray:
        return np.random.default_rng(seed).standard_normal(shape, np.float32)

    return make
