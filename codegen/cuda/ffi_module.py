"""
Kernels as a TVM-FFI module: a shared library that C++, Python and other frameworks can call.

    qcc_linear_int4_0(x, codes, scale, …, y, workspace, arrivals, tokens, grid_x, grid_y, grid_z)

Each kernel is exported as `qcc_<kernel>`, for the emulator (tensors of the CPU) and for a GPU (its
tensors, on the stream of the caller) alike: pointers are tensors, numbers are numbers, then come
the blocks of the grid. Needs the package apache-tvm-ffi, and for a GPU nvcc with its run-time
library.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...dialects.errors import QccError, ResourceError, UnsupportedError
from .compilers import Nvcc, find_compiler
from .emulator.build import FLAGS, host_compiler
from .plan import LaunchStep
from .program import CudaCode, Source
from .sources import DEVICE
from .toolchain import FLAGS as DEVICE_FLAGS

HEADERS = Path(__file__).parent / "ffi"
NUMBERS = {"s32": "int64_t", "s64": "int64_t", "u32": "int64_t", "float": "double", "f32": "double"}


@dataclass(frozen=True)
class Parameter:
    """Of a kernel: `type` is that of a number, empty for a pointer."""

    name: str
    type: str


def ffi_source(code: CudaCode, source: Source) -> str:
    """
    A translation unit with an exported function for each kernel of `source`, which goes before it
    for a GPU, and beside it for the emulator.

    Kernels that take tensor maps are left out: only a driver can make those.
    """
    launches = _launches(code)
    lines = ['#include "qcc_ffi.h"', ""]
    for kernel in source.kernels:
        parameters = parameters_of(source.text, kernel)
        if parameters is not None and kernel in launches:
            lines += _function(launches[kernel], parameters)
    return "\n".join(lines) + "\n"


def parameters_of(text: str, kernel: str) -> list[Parameter] | None:
    """
    The parameters that a source declares; None where one is a tensor map.

    >>> parameters_of("void __launch_bounds__(32)\\nk(\\n    const u16* x,\\n    s32 n) {", "k")
    [Parameter(name='x', type=''), Parameter(name='n', type='s32')]
    """
    found = re.search(rf"__launch_bounds__\([^)]*\)\s*{kernel}\(([^)]*)\)", text)
    if found is None:
        raise KeyError(kernel)
    parameters = []
    for each in filter(None, map(str.strip, found[1].split(","))):
        if "TensorMap" in each:
            return None
        type_, name = re.sub(r"\b(const|__restrict__)\b", "", each).rsplit(maxsplit=1)
        pointer = "*" in each
        parameters.append(Parameter(name.lstrip("*"), "" if pointer else type_.strip()))
    return parameters


def _launches(code: CudaCode) -> dict[str, LaunchStep]:
    return {
        step.kernel: step
        for function in code.plan.functions.values()
        for step in function.steps
        if isinstance(step, LaunchStep)
    }


def _function(step: LaunchStep, parameters: Sequence[Parameter]) -> list[str]:
    given = [
        f"{NUMBERS.get(each.type, 'int64_t') if each.type else 'tvm::ffi::TensorView'} {each.name}"
        for each in parameters
    ] + [f"int64_t grid_{axis}" for axis in "xyz"]
    passed = [
        f"  call.number<{each.type}>(static_cast<{each.type}>({each.name}));"
        if each.type
        else f"  call.pointer({each.name});"
        for each in parameters
    ]
    name = step.kernel
    return [
        "namespace qcc {",
        "#ifndef __CUDACC__",
        f'extern "C" int qcc_emulate_{name}(void** arguments, emulator::Launch* launch);',
        "#endif",
        f"void ffi_{name}({', '.join(given)}) {{",
        f'  ffi::Call call("{name}", grid_x, grid_y, grid_z, {step.threads}, {step.shared_bytes});',
        *passed,
        "#ifdef __CUDACC__",
        f"  call.run(&{name});",
        "#else",
        f"  call.run(&qcc_emulate_{name});",
        "#endif",
        "}",
        "}  // namespace qcc",
        f"TVM_FFI_DLL_EXPORT_TYPED_FUNC(qcc_{name}, qcc::ffi_{name});",
        "",
    ]


def build_ffi(code: CudaCode, folder: Path, emulated: bool = True) -> list[Path]:
    """
    A library for each source of the code, in `folder`: `tvm_ffi.load_module` opens them.

    Raises ResourceError without apache-tvm-ffi or a compiler, QccError where that refuses.
    """
    package = _package()
    folder.mkdir(parents=True, exist_ok=True)
    built = []
    for source in code.sources:
        library = folder / f"qcc_{source.family}.so"
        exported = ffi_source(code, source)
        texts = [source.text, exported] if emulated else [f"{source.text}\n{exported}"]
        _compile(_command(code, package, emulated), texts, library)
        built.append(library)
    return built


def _package() -> Any:
    try:
        import tvm_ffi.libinfo
    except ImportError as error:
        raise ResourceError(
            "tvm-ffi-missing",
            "kernels cannot be exported for TVM-FFI",
            why=str(error),
            next_step="pip install apache-tvm-ffi",
        ) from error
    return tvm_ffi.libinfo


def _command(code: CudaCode, package: Any, emulated: bool) -> list[str]:
    paths = [package.find_include_path(), package.find_dlpack_include_path(), DEVICE, HEADERS]
    includes = [f"-I{path}" for path in paths]
    library = package.find_libtvm_ffi()
    if emulated:
        return [host_compiler(), *FLAGS, *includes, "-Wl,--no-as-needed", library, "-x", "c++"]
    compiler = find_compiler()
    if not isinstance(compiler, Nvcc):
        raise UnsupportedError(
            "tvm-ffi-nvcc",
            "a module for a GPU has code of the host, which NVRTC does not compile",
            next_step="put nvcc on PATH, or export for the emulator",
        )
    machine = code.plan.target.removeprefix("sm_")
    exact = ["-gencode", f"arch=compute_{machine},code=sm_{machine}"]
    return [
        str(compiler.program), *DEVICE_FLAGS, *exact, "-shared", "-Xcompiler", "-fPIC", *includes,
        library,
    ]  # fmt: skip


def _compile(command: list[str], texts: Sequence[str], library: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="qcc-ffi-") as scratch:
        files = [Path(scratch, f"{library.stem}_{index}.cu") for index in range(len(texts))]
        for file, text in zip(files, texts, strict=True):
            file.write_text(text)
        whole = [*command, *map(str, files), "-o", str(library)]
        done = subprocess.run(whole, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode:
            raise QccError(
                "tvm-ffi-build",
                f"the module {library.name} does not compile",
                where=f"{library.stem}.cu",
                why=(done.stdout + done.stderr).replace(f"{scratch}/", "").strip()[:4000],
                next_step="report the message with the emitted source",
            )
