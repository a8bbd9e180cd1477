"""Running an artifact needs neither torch nor MLIR, and survives forks and many threads."""

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import qcc
from qcc.codegen.cpu.runtime import CompiledObject
from qcc.compiler.cli import main
from qcc.compiler.running import KeyValueCaches
from qcc.dialects.errors import UsageError
from qcc.models import FAMILIES, Sample

RUN = """
import sys
import numpy as np
import qcc
module = qcc.load(sys.argv[1])
assert module.verify()["passed"]
assert module(np.ones((3, 24), np.float32)).shape == (3, 5)
loaded = [name for name in ("torch", "torch_mlir") if name in sys.modules]
assert not loaded, loaded
"""


@pytest.fixture(scope="module")
def linear() -> tuple[torch.nn.Module, qcc.Module]:
    torch.manual_seed(0)
    model = torch.nn.Linear(24, 5).eval()
    return model, qcc.compile(model, (torch.randn(3, 24),), recipe={"default": {"weights": "int8"}})


def test_running_loads_neither_torch_nor_mlir(
    linear: tuple[torch.nn.Module, qcc.Module], tmp_path: Path
) -> None:
    path = tmp_path / "linear.qcc"
    linear[1].save(path)
    subprocess.run([sys.executable, "-c", RUN, str(path)], check=True)


def test_a_forked_child_can_call(linear: tuple[torch.nn.Module, qcc.Module]) -> None:
    module = linear[1]
    x = np.ones((3, 24), np.float32)
    expected = module(x)
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(module(x), expected) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_threads_may_call_one_module(linear: tuple[torch.nn.Module, qcc.Module]) -> None:
    module = linear[1]
    inputs = [np.full((3, 24), value, np.float32) for value in range(8)]
    expected = [module(x) for x in inputs]
    wrong: list[int] = []

    def work(index: int) -> None:
        for _ in range(50):
            if not np.array_equal(module(inputs[index]), expected[index]):
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_threads_are_pinned_to_processors(
    linear: tuple[torch.nn.Module, qcc.Module], tmp_path: Path
) -> None:
    path = tmp_path / "linear.qcc"
    linear[1].save(path)
    first, last = min(os.sched_getaffinity(0)), max(os.sched_getaffinity(0))
    before, own = set(os.listdir("/proc/self/task")), os.sched_getaffinity(0)
    module = qcc.load(path, threads=[first, last, first])
    x = np.ones((3, 24), np.float32)
    assert np.array_equal(module(x), linear[1](x))
    started = set(os.listdir("/proc/self/task")) - before
    pinned = [os.sched_getaffinity(int(task)) for task in started]
    assert sorted(pinned, key=min) == sorted([{last}, {first}], key=min)
    assert os.sched_getaffinity(0) == own


@pytest.mark.parametrize("threads", [[], [100_000], [0.0], "0", 0, -1, True])
def test_threads_are_a_number_or_processors(
    linear: tuple[torch.nn.Module, qcc.Module], tmp_path: Path, threads: Any
) -> None:
    path = tmp_path / "linear.qcc"
    linear[1].save(path)
    with pytest.raises(UsageError, match="no number of threads, and no list of processors"):
        qcc.load(path, threads=threads)


Compiled = Callable[..., tuple[Sample, qcc.Module]]


@pytest.fixture(scope="module")
def decoder(compiled: Compiled) -> qcc.Module:
    return compiled("gpt2")[1]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_generation_continues_as_whole_sequences_would(compiled: Compiled, family: str) -> None:
    sample, module = compiled(family)
    assert module.generates
    tokens = torch.randint(0, 60, (2, 5), generator=torch.Generator().manual_seed(1))
    produced = module.generate(tokens, 6)
    whole = tokens
    with torch.no_grad():
        for _ in range(6):
            whole = torch.cat([whole, sample.module(whole)[:, -1:].argmax(-1)], 1)
    assert np.array_equal(produced, whole[:, 5:].numpy())


def test_threads_may_generate_with_one_module(decoder: qcc.Module) -> None:
    prompts = [np.arange(3 + index) for index in range(4)]
    expected = [decoder.generate(prompt, 40) for prompt in prompts]
    found: dict[int, list[bool]] = {}

    def work(index: int) -> None:
        found[index] = [
            np.array_equal(decoder.generate(prompts[index], 40), expected[index]) for _ in range(10)
        ]

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {index: [True] * 10 for index in range(4)}


def test_threads_may_step_one_code(decoder: qcc.Module, request: pytest.FixtureRequest) -> None:
    """Each with caches of its own, whose addresses the code holds in one place."""
    request.addfinalizer(partial(sys.setswitchinterval, sys.getswitchinterval()))
    sys.setswitchinterval(1e-6)
    running = decoder._running
    prompts = [np.full((1, 2), index) for index in range(4)]

    def stepped(prompt: np.ndarray) -> np.ndarray:
        caches = KeyValueCaches(running.code, 1)
        return np.concatenate([running.step(prompt, caches)[0] for _ in range(25)], 1)

    expected = [stepped(prompt) for prompt in prompts]
    with ThreadPoolExecutor(len(prompts)) as pool:
        for _ in range(4):
            np.testing.assert_array_equal(list(pool.map(stepped, prompts)), expected)


@pytest.mark.parametrize(
    ("prompt", "new", "code"),
    [
        (np.zeros((1, 0), np.int64), 1, "prompt"),
        (np.zeros((0, 3), np.int64), 1, "prompt"),
        (np.zeros((1, 2, 3), np.int64), 1, "prompt"),
        (np.ones(3), 1, "prompt"),
        (np.array([1, -1]), 1, "input-range"),
        (np.array([1, 128]), 1, "input-range"),
        (np.arange(5), 61, "prompt-size"),
        (np.zeros((65, 2), np.int64), 1, "prompt-size"),
    ],
)
def test_prompts_that_do_not_fit(
    decoder: qcc.Module, prompt: np.ndarray, new: int, code: str
) -> None:
    with pytest.raises(qcc.QccError) as refused:
        decoder.generate(prompt, new)
    assert refused.value.code == code


def test_a_prompt_may_fill_the_model(decoder: qcc.Module) -> None:
    assert decoder.generate(np.arange(5, dtype=np.uint8), 60).shape == (60,)
    two: Any = np.int64(2)
    assert decoder.generate([7], two).shape == (2,)


def test_tokens_outside_the_table_are_refused(decoder: qcc.Module) -> None:
    with pytest.raises(qcc.QccError, match="128, an index into a table of 128 rows"):
        decoder(np.array([[1, 128]]))


@pytest.mark.parametrize("threads", [0, -3, 1.5, "2"])
def test_what_is_no_number_of_threads(
    linear: tuple[torch.nn.Module, qcc.Module], tmp_path: Path, threads: Any
) -> None:
    path = tmp_path / "linear.qcc"
    linear[1].save(path)
    with pytest.raises(qcc.QccError, match="no number of threads"):
        qcc.load(path, threads=threads)
    with pytest.raises(qcc.QccError, match="no number of threads"):
        qcc.compile(linear[0], (torch.randn(3, 24),), threads=threads)


def test_threads_that_the_system_refuses(
    linear: tuple[torch.nn.Module, qcc.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    function = CompiledObject._function

    def refusing(self: CompiledObject, name: str, *types: Any) -> Callable[..., Any]:
        found = function(self, name, *types)
        return (lambda wanted: wanted - 2) if name == "qcc_start_workers" else found

    monkeypatch.setattr(CompiledObject, "_function", refusing)
    path = tmp_path / "linear.qcc"
    linear[1].save(path)
    with pytest.raises(qcc.QccError) as refused:
        qcc.load(path, threads=5)(np.ones((3, 24), np.float32))
    assert refused.value.code == "cpu-threads"
    assert "5 threads (3 possible)" in refused.value.what
    assert "threads=3" in (refused.value.next_step or "")


class MeanOverTime(torch.nn.Module):
    """A causal decoder spoilt by a mean over all positions: no step can compute it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = FAMILIES["gpt2"]().module

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        logits = self.inner(tokens)
        return logits + logits.mean(1, keepdim=True)


def test_a_model_whose_tokens_meet_elsewhere_does_not_generate() -> None:
    sample = FAMILIES["gpt2"]()
    module = qcc.compile(MeanOverTime().eval(), sample.inputs, dynamic_shapes=sample.dynamic_shapes)
    assert not module.generates
    with pytest.raises(qcc.QccError, match="token by token") as refused:
        module.generate(np.zeros(4, np.int64), 2)
    assert "its tokens meet elsewhere than in causal attention" in refused.value.why


def test_a_decoder_of_one_length_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And doing it, with the very code of the message, makes it generate."""
    model, (tokens,) = (sample := FAMILIES["gpt2"]()).module, sample.inputs
    path = tmp_path / "fixed.pt2"
    torch.export.save(torch.export.export(model, (tokens,)), path)
    assert main(["compile", str(path), "-o", str(tmp_path / "fixed.qcc")]) == 0
    told = "no generation token by token: it was traced with static shapes: a sequence has exactly"
    assert told in capsys.readouterr().out
    with pytest.raises(qcc.QccError) as refused:
        qcc.load(tmp_path / "fixed.qcc").generate(tokens, 2)
    assert (refused.value.code, "exactly 16 tokens" in refused.value.why) == ("no-step", True)
    advice = textwrap.dedent(refused.value.next_step.partition("\n")[2]).replace("2048", "64")
    names = {"model": model, "tokens": tokens, "qcc": qcc}
    exec(advice.replace("qcc.compile", "compiled = qcc.compile"), names)
    assert names["compiled"].generate(tokens, 2).shape == (2, 2)


def test_a_table_of_positions_limits_what_torch_does_not() -> None:
    """Dimensions without a maximum: the 65th position would have been NaN."""
    sample = FAMILIES["gpt2"]()
    dynamic = ({0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC},)
    module = qcc.compile(sample.module, sample.inputs, dynamic_shapes=dynamic)
    sizes = [module.signature.dims[str(name)].max for name in module.signature.inputs[0].shape]
    assert sizes == [None, 64]
    assert np.isfinite(module(np.zeros((2, 64), np.int64))).all()
    with pytest.raises(qcc.QccError, match="has size 65 on axis 1"):
        module(np.zeros((2, 65), np.int64))
    with pytest.raises(qcc.QccError, match="too long: the model sees up to 64") as refused:
        module.generate(np.arange(5), 61)
    assert refused.value.next_step == "ask for 60 new tokens at most"


class Buckets(torch.nn.Module):
    """Positions from the fourth on share a row of the table."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(4, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.table(torch.arange(x.shape[0]).clamp(max=3))


def test_a_table_of_buckets_limits_nothing() -> None:
    dynamic = ({0: torch.export.Dim.DYNAMIC},)
    model = Buckets().eval()
    module = qcc.compile(model, (torch.zeros(3, 8),), dynamic_shapes=dynamic, golden=False)
    assert [extent.max for extent in module.signature.dims.values()] == [None]
    x = torch.randn(50, 8)
    torch.testing.assert_close(module(x), model(x).detach())


@pytest.mark.parametrize("count", [1.5, 2.0, -1, True, "3", None])
def test_what_is_no_number_of_new_tokens(decoder: qcc.Module, count: Any) -> None:
    with pytest.raises(qcc.QccError) as refused:
        decoder.generate([1, 2], count)
    assert refused.value.code == "token-count"


@pytest.mark.parametrize("stop", [1.0, -1, True, "x", [0, 1 << 40]])
def test_what_ends_no_text(decoder: qcc.Module, stop: Any) -> None:
    with pytest.raises(qcc.QccError) as refused:
        decoder.generate([1, 2], 3, stop=stop)
    assert refused.value.code == "stop-token"


def test_several_tokens_end_a_text(decoder: qcc.Module) -> None:
    whole = decoder.generate([1, 2], 6).tolist()
    end = whole.index(whole[2])
    assert decoder.generate([1, 2], 6, stop=[whole[2]]).tolist() == whole[: end + 1]
    assert decoder.generate([1, 2], 6, stop=[]).tolist() == whole


class LastLogits(torch.nn.Module):
    """Only the logits that choose the next token, as generation loops like them."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = FAMILIES["gpt2"]().module

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.inner(tokens)[:, -1]


def test_a_model_that_returns_the_last_logits_generates(compiled: Compiled) -> None:
    sample = FAMILIES["gpt2"]()
    module = qcc.compile(LastLogits().eval(), sample.inputs, dynamic_shapes=sample.dynamic_shapes)
    tokens = np.arange(5)
    assert np.array_equal(module.generate(tokens, 4), compiled("gpt2")[1].generate(tokens, 4))


def test_verify_replays_a_decoder_token_by_token(compiled: Compiled) -> None:
    whole, stepped = compiled("llama")[1].verify()["outputs"]
    assert stepped["name"] == f"{whole['name']} (token by token)"
    assert stepped["passed"]
    assert 0 < stepped["max_rel_error"] < 1e-5
