"""What `qcc compile MODEL` accepts: factories, files told by content, weights that must fit."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from qcc.compiler.frontend.sources import from_module, open_model, with_values
from qcc.dialects.errors import IntegrityError, UnsupportedError, UsageError

FACTORY = textwrap.dedent(
    """
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(11, 6)
            self.rnn = nn.GRU(6, 6, batch_first=True)
            self.norm = nn.BatchNorm1d(6)
            self.head = nn.Linear(6, 11, bias=False)
            self.head.weight = self.embed.weight
            self.register_buffer("table", torch.linspace(0, 1, 6), persistent=False)
            self.own = nn.Parameter(torch.full((6,), 2.0))

        def forward(self, ids):
            x = self.rnn(self.embed(ids))[0] * self.table * self.own
            positions = torch.arange(ids.shape[1])[None, :, None]
            x = self.norm((x + positions).transpose(1, 2)).transpose(1, 2)
            return self.head(x)

    class Bringing(Net):
        def example_inputs(self):
            return (torch.zeros(2, 5, dtype=torch.int64),)

        def dynamic_shapes(self):
            return ({0: torch.export.Dim("batch", max=8)},)

    def pair():
        return Net(), (torch.zeros(2, 5, dtype=torch.int64),)

    def triple():
        return Net(), (torch.zeros(2, 5, dtype=torch.int64),), ({0: torch.export.Dim("b", max=9)},)

    def on_meta():
        with torch.device("meta"):
            return pair()

    def bare():
        return Net()

    def failing():
        raise RuntimeError("no such checkpoint")

    def not_a_module():
        return 3

    class Branching(nn.Module):
        def forward(self, x):
            if x.sum() > 0:
                return x
            return -x

    def untraceable():
        return Branching(), (torch.ones(2),)
    """
)


@pytest.fixture
def factory(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(FACTORY)
    return lambda name: f"{path}:{name}"


@pytest.fixture
def original(tmp_path, factory):
    """The module of the factory with weights of a fixed seed, and their file."""
    names: dict = {}
    exec_module(tmp_path / "net.py", names)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        # torch's matmul chooses its path, and so its rounding, by requires_grad
        module = names["Net"]().eval().requires_grad_(False)
    module.norm.running_mean.fill_(0.25)
    weights = module.state_dict()
    save_file(
        {n: t.clone() for n, t in weights.items() if n != "head.weight"}, tmp_path / "w.safetensors"
    )
    torch.save(weights, tmp_path / "w.pt")
    return module


def exec_module(path, names):
    spec = importlib.util.spec_from_file_location("net_original", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    names.update(vars(module))


IDS = torch.tensor([[1, 4, 2, 10, 0], [3, 3, 9, 8, 7]])


@pytest.mark.parametrize("name", ["pair", "triple", "Bringing", "on_meta"])
@pytest.mark.parametrize("weights", ["w.safetensors", "w.pt"])
def test_factory_with_weights(tmp_path, factory, original, name, weights):
    if name == "on_meta":
        with pytest.raises(UsageError, match="no values"):
            open_model(factory(name))
        save_file(
            {n: t.clone() for n, t in original.state_dict().items()} | {"table": original.table},
            tmp_path / "w.safetensors",
        )
        return
    with open_model(factory(name), tmp_path / weights) as opened:
        assert opened.weights.info("head.weight") == opened.weights.info("embed.weight")
        assert opened.weights.read("table").tolist() == original.table.tolist()
        assert torch.equal(with_values(opened)(IDS), original(IDS))
        free = {"pair": 0, "triple": 1, "Bringing": 1}[name]
        assert len(opened.program.range_constraints) == free


def test_factory_without_weights_uses_its_own(factory):
    with open_model(factory("pair")) as opened:
        assert opened.weights.read("own").tolist() == [2.0] * 6


def test_factory_by_module_name(tmp_path, original, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with open_model("net:pair", "w.safetensors") as opened:
        assert torch.equal(with_values(opened)(IDS), original(IDS))
    assert str(tmp_path) not in sys.path


def test_a_file_imports_what_lies_beside_it(tmp_path, original, monkeypatch):
    (tmp_path / "user_factories.py").write_text("from net import *\nimport user_names\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "user_names.py").write_text("")
    monkeypatch.chdir(elsewhere)
    for name in ("net", "user_names"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    before = list(sys.path)
    with open_model("../user_factories.py:pair", tmp_path / "w.safetensors") as opened:
        assert torch.equal(with_values(opened)(IDS), original(IDS))
    assert sys.path == before


@pytest.mark.parametrize("ids", [IDS, IDS.numpy()])
def test_example_inputs_from_the_caller(tmp_path, factory, original, ids):
    with open_model(
        factory("bare"), tmp_path / "w.safetensors", example_inputs={"ids": ids}
    ) as opened:
        assert torch.equal(with_values(opened)(ids=IDS), original(IDS))


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("bare", "example-inputs-missing"),
        ("failing", "factory-failed"),
        ("not_a_module", "factory-result"),
        ("absent", "factory-missing"),
        ("a b", "model-spec"),
    ],
)
def test_factories_that_do_not_give_a_model(factory, name, code):
    with pytest.raises(UsageError) as caught:
        open_model(factory(name))
    assert caught.value.code == code


def test_failure_names_the_users_line(factory):
    with pytest.raises(UsageError) as caught:
        open_model(factory("failing"))
    assert 'raise RuntimeError("no such checkpoint")' in caught.value.where
    with pytest.raises(UnsupportedError) as untraced:
        open_model(factory("untraceable"))
    assert "if x.sum() > 0:" in untraced.value.where


@pytest.mark.parametrize("spec", ["nowhere.py:f", "no_such_module:f", "model", "x.pt2"])
def test_models_that_do_not_exist(spec):
    with pytest.raises(UsageError):
        open_model(spec)


def test_files_are_told_by_content(tmp_path, saved, original):
    disguised = tmp_path / "model.safetensors"
    disguised.write_bytes(saved("mlp").read_bytes())
    with open_model(str(disguised)) as opened:
        assert opened.name == "model"
    for weights in ("w.safetensors", "w.pt"):
        with pytest.raises(UsageError) as caught:
            open_model(str(tmp_path / weights))
        assert caught.value.code == "model-architecture-missing"
    (tmp_path / "notes.pt2").write_text("hello")
    with pytest.raises(UsageError) as other:
        open_model(str(tmp_path / "notes.pt2"))
    assert other.value.code == "model-kind"
    (tmp_path / "model.py").write_text("import torch")
    with pytest.raises(UsageError, match=r"model\.py:FACTORY"):
        open_model(str(tmp_path / "model.py"))
    (tmp_path / "noise.pt2").write_bytes(b"\xff\xfe\xfd\xfc")
    with pytest.raises(IntegrityError) as unknown:
        open_model(str(tmp_path / "noise.pt2"))
    assert unknown.value.code == "model-unknown"


def test_archive_without_values_takes_weights(tmp_path, factory, original):
    """A model exported on the meta device; its weights come from a file."""
    with open_model(factory("pair"), tmp_path / "w.safetensors") as opened:
        torch.export.save(opened.program, tmp_path / "empty.pt2")
    with pytest.raises(UsageError) as caught:
        open_model(str(tmp_path / "empty.pt2"))
    assert caught.value.code == "weights-needed"
    assert "--weights" in caught.value.next_step
    # The archive cannot say which weights were tied, so the file must have all names.
    with pytest.raises(UsageError, match="do not fit") as caught:
        open_model(str(tmp_path / "empty.pt2"), tmp_path / "w.safetensors")
    assert "missing: head.weight" in caught.value.why
    save_file({n: t.clone() for n, t in original.state_dict().items()}, tmp_path / "w.safetensors")
    with open_model(str(tmp_path / "empty.pt2"), tmp_path / "w.safetensors") as again:
        assert torch.equal(with_values(again)(IDS), original(IDS))


def test_weights_that_do_not_fit(tmp_path, factory, original):
    good = {n: t.clone() for n, t in original.state_dict().items() if n != "head.weight"}

    def message(change: dict) -> str:
        tensors = {n: t for n, t in (good | change).items() if t is not None}
        save_file(tensors, tmp_path / "bad.safetensors")
        with pytest.raises(UsageError) as caught:
            open_model(factory("pair"), tmp_path / "bad.safetensors")
        assert caught.value.code in ("weights-mismatch", "weights-untied")
        return str(caught.value)

    assert "1 missing: own" in message({"own": None})
    assert "1 unexpected: other" in message({"other": torch.ones(1)})
    renamed = message({"norm.bias": None, "norm.bais": good["norm.bias"]})
    assert "norm.bias (did you mean norm.bais?)" in renamed
    many = message({f"extra{i}": torch.ones(1) for i in range(9)})
    assert "9 unexpected" in many
    assert "extra5" not in many
    assert "own is [7], the model has [6]" in message({"own": torch.ones(7)})
    assert "own is int64" in message({"own": torch.ones(6, dtype=torch.int64)})
    assert "ties" in message({"head.weight": good["embed.weight"] + 1})


def test_floats_are_cast_and_equal_ties_accepted(tmp_path, factory, original):
    tensors = {n: t.clone() for n, t in original.state_dict().items()}
    tensors["own"] = tensors["own"].bfloat16()
    save_file(tensors, tmp_path / "w.safetensors")
    with open_model(factory("pair"), tmp_path / "w.safetensors") as opened:
        assert opened.weights.info("own").dtype == "float32"
        assert opened.weights.read("own").dtype == np.float32
        assert opened.weights.info("head.weight") == opened.weights.info("embed.weight")


def test_meta_module_with_weights_through_the_api(tmp_path, original):
    with torch.device("meta"):
        module, x = torch.nn.Linear(4, 3), torch.empty(2, 4)
    weights = {"weight": torch.randn(3, 4), "bias": torch.randn(3)}
    save_file(weights, tmp_path / "linear.safetensors")
    with from_module(module, x, weights=str(tmp_path / "linear.safetensors")) as opened:
        ones = torch.ones(2, 4)
        want = torch.nn.functional.linear(ones, weights["weight"], weights["bias"])
        assert torch.equal(with_values(opened)(ones), want)
    assert module.weight.is_meta


BIG = """
import json, sys
from conftest import Llama
import torch

def factory():
    ids = torch.zeros(1, 16, dtype=torch.int64)
    shapes = ({1: torch.export.Dim("s", min=2, max=100)},)
    return Llama(4096, 11008, 32, 32000), (ids,), shapes

if __name__ == "__main__":
    from qcc.compiler.frontend.module_source import call_factory, export

    sample = call_factory(f"{__file__}:factory", without_parameters=True)
    program = export(sample, "big")
    count = sum(p.numel() for p in sample.module.parameters())
    torch.export.save(program, sys.argv[1])
    from qcc.compiler.frontend.pt2_reader import read_pt2

    read = read_pt2(sys.argv[1])
    # Not getrusage, whose peak a process inherits from the one that started it.
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    peak = int(status["VmHWM"].split()[0])
    print(json.dumps({"count": count, "peak": peak, "empty": len(read.without_bytes)}))
"""


def test_seven_billion_parameters_in_less_than_a_gibibyte(tmp_path, request):
    script = tmp_path / "big.py"
    script.write_text(BIG)
    run = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "big.pt2")],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(request.path.parent), "PATH": "", "OMP_NUM_THREADS": "1"},
    )
    report = json.loads(run.stdout.splitlines()[-1])
    assert report["count"] > 6_000_000_000
    assert report["empty"] > 32 * 9
    assert report["peak"] * 1024 < 1 << 30
