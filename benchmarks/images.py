"""
Seconds of whole image models in fp32 and int8, against torch and ONNX Runtime on the same threads.

    python -m benchmarks.images [--models resnet20 resnet56 ocr] [--recipes fp32 …] [--batch N …]

ResNet-20 and -56 have random weights: only their speed is looked at. `ocr` is the text recognizer
of PP-OCRv4, read from the file that --ocr names (ch_PP-OCRv4_rec_infer.onnx of the package
rapidocr-onnxruntime). All contestants take turns within one process, and what counts is the ratio
of their medians: of processor seconds on one thread, which other work on the machine disturbs
less, of seconds on more. ONNX Runtime, and its int8 model (QDQ, weights by channel, calibrated on
the same kind of images as ours), take part where `onnx` and `onnxruntime` are installed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import qcc
from benchmarks.console import say
from qcc.models.onnx_graph import OnnxGraph
from qcc.models.resnet import CifarResNet

Run = Callable[[], object]

MODELS = ("resnet20", "resnet56", "ocr")
SAMPLES = 8
PLAIN = "fp32"


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    for name in options.models:
        if name == "ocr" and options.ocr is None:
            say("ocr: left out, --ocr names no file")
            continue
        model, shape = subject(name, options.ocr)
        for batch in options.batch:
            images = torch.randn((batch, *shape), generator=torch.Generator().manual_seed(0))
            with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
                runs = contestants(model, images, options, Path(folder))
                report(f"{name}, batch {batch}, {options.threads} threads", runs, options)
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--recipes", nargs="+", default=[PLAIN, "w8a8", "w8a8-static"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--ocr", type=Path, help="ch_PP-OCRv4_rec_infer.onnx")
    return parser.parse_args(arguments)


def subject(name: str, ocr: Path | None) -> tuple[nn.Module, tuple[int, int, int]]:
    """The model in eval mode, and the shape of one image."""
    torch.manual_seed(0)
    if name == "ocr":
        assert ocr is not None
        return OnnxGraph(ocr).eval(), (3, 48, 320)
    return CifarResNet(blocks=(int(name.removeprefix("resnet")) - 2) // 6).eval(), (3, 32, 32)


def contestants(
    model: nn.Module, images: Tensor, options: argparse.Namespace, folder: Path
) -> dict[str, Run]:
    array = images.numpy()
    samples = [torch.randn_like(images) for _ in range(SAMPLES)]
    runs: dict[str, Run] = {"torch fp32": lambda: model(images)}
    with torch.inference_mode(False), torch.no_grad():
        program = torch.export.export(model, (images.clone(),))
        for name in options.recipes:
            recipe = None if name == PLAIN else name
            calibration = [(sample.clone(),) for sample in samples] if recipe else None
            compiled = qcc.compile(
                program, recipe=recipe, calibration=calibration, threads=options.threads
            )
            runs[f"qcc {name}"] = lambda compiled=compiled: compiled(array)
        runs |= onnx_runs(model, images, samples, options.threads, folder)
    return runs


def onnx_runs(
    model: nn.Module, images: Tensor, samples: Sequence[Tensor], threads: int, folder: Path
) -> dict[str, Run]:
    """ONNX Runtime in fp32 and int8; none where it is not installed."""
    try:
        import onnxruntime as ort  # pyright: ignore[reportMissingImports]
        from onnxruntime import quantization as q  # pyright: ignore[reportMissingImports]
    except ImportError:
        say("ONNX Runtime is not installed: pip install -e '.[peers]'")
        return {}

    class Samples(q.CalibrationDataReader):
        def __init__(self) -> None:
            self._rest: Iterator[Tensor] = iter(samples)

        def get_next(self) -> dict[str, np.ndarray] | None:
            sample = next(self._rest, None)
            return None if sample is None else {"x": sample.numpy()}

    plain, whole = folder / "fp32.onnx", folder / "int8.onnx"
    torch.onnx.export(
        model, (images.clone(),), str(plain), dynamo=False, input_names=["x"], opset_version=17
    )
    q.quantize_static(
        str(plain), str(whole), Samples(), quant_format=q.QuantFormat.QDQ, per_channel=True,
        activation_type=q.QuantType.QUInt8, weight_type=q.QuantType.QInt8,
    )  # fmt: skip
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.log_severity_level = 3
    runs: dict[str, Run] = {}
    for name, path in (("onnxruntime fp32", plain), ("onnxruntime int8", whole)):
        session = ort.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
        runs[name] = lambda session=session: session.run(None, {"x": images.numpy()})
    return runs


def report(title: str, runs: dict[str, Run], options: argparse.Namespace) -> None:
    clock = time.process_time if options.threads == 1 else time.perf_counter
    seconds = interleaved(runs, options.rounds, clock)
    medians = {name: float(np.median(times)) for name, times in seconds.items()}
    rivals = [
        name for name in ("torch fp32", "onnxruntime fp32", "onnxruntime int8") if name in runs
    ]
    say(title)
    for name, times in seconds.items():
        ratios = "".join(
            f"   {other} / this {medians[other] / medians[name]:5.2f}" for other in rivals
        )
        best, median = min(times) * 1e3, medians[name] * 1e3
        say(f"  {name:18} {median:8.2f} ms median, {best:8.2f} best{ratios}")


def interleaved(
    runs: dict[str, Run], rounds: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Seconds of each call; two calls of each before are not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 2):
        for name, run in runs.items():
            start = clock()
            run()
            if number > 1:
                seconds[name].append(clock() - start)
    return seconds


if __name__ == "__main__":
    sys.exit(main())
