"""Whole decoders on the emulator: against the interpreter, and in steps against whole runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import qcc
from qcc.codegen.cuda.driver_device import open_gpu
from qcc.codegen.cuda.plan import LaunchStep
from qcc.codegen.cuda.program import CudaCode
from qcc.compiler.backends import stored_code
from qcc.compiler.cuda.running import CudaRunning
from qcc.compiler.cuda.tensors import DeviceArray
from qcc.compiler.golden import ACROSS_TOKENS
from qcc.compiler.module import Module
from qcc.compiler.running import Running
from qcc.models.llama import Llama, LlamaConfig, dynamic_shapes, example_inputs
from tests.compiler.recorded_driver import RecordedDriver

CONFIG = LlamaConfig(
    vocabulary=61, width=32, layers=1, heads=4, kv_heads=2, hidden=48, norm_eps=1e-5
)


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Module]:
    torch.manual_seed(0)
    model = Llama(CONFIG).eval().requires_grad_(False)
    tokens = tuple(each % CONFIG.vocabulary for each in example_inputs())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QCC_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield qcc.compile(
            model, tokens, recipe="w4a8-dint4", target="cuda:emulate",
            dynamic_shapes=dynamic_shapes(),
        )  # fmt: skip


def test_outputs_are_the_interpreter_s_whole_and_in_steps(decoder: Module) -> None:
    result = decoder.verify()
    assert result["golden"]
    assert result["passed"]
    assert [output["name"] for output in result["outputs"]] == [
        "output_0", "output_0 (token by token)",
    ]  # fmt: skip


def test_generated_tokens_are_those_of_whole_runs(decoder: Module) -> None:
    assert decoder.generates
    prompt = np.array([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])
    new = decoder.generate(prompt, 4)
    [logits] = decoder.run([np.concatenate([prompt, new], 1)])
    np.testing.assert_array_equal(logits[:, 4:-1].argmax(-1), new)


def test_caches_grow_and_keep_what_they_hold(
    decoder: Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qcc.compiler.cuda.running._FIRST_CAPACITY", 2)
    running: Running = decoder._running
    tokens = np.array([[7, 8, 9, 10, 11, 12]])
    caches = running.caches(1)
    rows = [running.step(part, caches)[0] for part in np.split(tokens, 6, 1)]
    assert caches.length == 6
    [whole] = running.call([tokens])
    np.testing.assert_allclose(np.concatenate(rows, 1), whole, atol=5e-3 * np.abs(whole).max())


def test_memory_that_a_cache_outgrew_is_freed(
    decoder: Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it held anything or not."""
    running: Any = decoder._running
    device, held = running._device, [0]
    for name, change in (("allocate", 1), ("free", -1)):
        called = getattr(device, name)
        monkeypatch.setattr(device, name, counted(held, change, called))
    caches = running.caches(1)
    for positions in (1, 600, 5000):
        caches.reserve(positions)
    assert held == [len(caches.memories)]
    caches.close()
    assert held == [0]


@pytest.mark.parametrize("what", ["step", "captured"])
def test_what_one_thread_does_stays_out_of_the_stream_of_another(
    decoder: Module, what: str
) -> None:
    """Another thread grows caches, or records a call, while this one puts work on torch's."""
    code = stored_code(decoder._artifact, decoder._precision)
    assert isinstance(code, CudaCode)
    modules: dict[str, Any] = decoder._running._device._modules
    driver = RecordedDriver({name.encode(): module for name, module in modules.items()})
    code = replace(code, cubins={name: name.encode() for name in modules})
    running = CudaRunning(code, decoder._artifact.tensor, open_gpu(code, driver))
    tokens, caches = np.array([[3, 1, 4]]), running.caches(1)

    def work() -> Any:
        return running.step(tokens, caches) if what == "step" else running.captured([tokens])

    def on_device(array: np.ndarray) -> DeviceArray:
        address = driver.allocate(array.nbytes)
        driver.to_device(address, array.ctypes.data, array.nbytes)
        return DeviceArray(array.shape, array.dtype, address, None)

    def empty(shape: tuple[int, ...], dtype: np.dtype) -> DeviceArray:
        if not others:
            others.append(pool.submit(work))
            wait(others, 0.3)
        return DeviceArray(shape, dtype, driver.allocate(4 * int(np.prod(shape))), None)

    others: list[Future[Any]] = []
    with ThreadPoolExecutor(1) as pool:
        running.call_on_device([on_device(tokens)], empty, 77)
    others[0].result()
    assert caches.length == (3 if what == "step" else 0)


def counted(held: list[int], change: int, call: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def counting(argument: Any) -> Any:
        held[0] += change
        return call(argument)

    return counting


def test_a_cache_costs_what_half_precision_takes(decoder: Module) -> None:
    cache = decoder.report["kv_cache"]
    per_token = 2 * CONFIG.kv_heads * (CONFIG.width // CONFIG.heads)
    assert cache["token_bytes"] == 2 * per_token
    assert cache["token_bytes_fp32"] == 4 * per_token
    assert cache["layers"][0]["keys"] == "fp16"


def test_the_arena_is_far_smaller_than_all_values(decoder: Module) -> None:
    code = stored_code(decoder._artifact, decoder._precision)
    assert isinstance(code, CudaCode)
    running = decoder._running
    execution = running._executions["main"]
    situation = execution.situation([(2, 40)], {})
    buffers = [each for each in execution.function.buffers if each.place == "arena"]
    values = sum(situation.sizes[each.bytes] for each in buffers)
    assert situation.arena < values / 2
    steps = code.plan.functions["step"].steps
    families = {step.family for step in steps if isinstance(step, LaunchStep)}
    assert families == {"groups", "linear", "warps"}


def test_half_precision_decoders_with_a_packed_cache_have_one_type() -> None:
    """The rounded keys and values become what the queries are, whatever other operands are."""
    torch.manual_seed(0)
    tokens = tuple(each % CONFIG.vocabulary for each in example_inputs())
    made = qcc.compile(
        Llama(CONFIG).eval().bfloat16(), tokens, dynamic_shapes=dynamic_shapes(),
        recipe={"default": {"weights": "int8", "kv": "int4"}}, target="cuda:emulate",
    )  # fmt: skip
    assert made.verify()["passed"]
    prompt = np.array([[3, 1, 4, 1, 5]])
    new = made.generate(prompt, 3)
    [logits] = made.run([np.concatenate([prompt, new], 1)])
    np.testing.assert_array_equal(logits.astype(np.float32)[:, 4:-1].argmax(-1), new)
    program = made._artifact.read("model.mlir").decode()
    assert set(re.findall(r"\bb?f16\b", program)) == {"bf16"}


def test_steps_whose_activations_are_rounded_to_integers() -> None:
    """Weights of attention in half precision may carry an activation to the next integer."""
    torch.manual_seed(0)
    tokens = tuple(each % CONFIG.vocabulary for each in example_inputs())
    made = qcc.compile(
        Llama(CONFIG).eval(), tokens, dynamic_shapes=dynamic_shapes(), target="cuda:emulate",
        recipe={"default": {"weights": "dint4", "activations": "int8", "kv": "int8"}},
    )  # fmt: skip
    assert made.generates
    result = made.verify()
    assert result["passed"]
    whole, steps = (output["tolerance"] for output in result["outputs"])
    assert whole < 0.03
    assert steps == ACROSS_TOKENS
