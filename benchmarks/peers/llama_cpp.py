"""
llama.cpp's own evaluation of a model, through its C interface: a peer of prompts and decoding.

Parameter structures differ from version to version and are never looked into, but for the first
number of a context's, the tokens that it has room for. They are passed as blocks longer than any
version's: callers pass such structures in memory, and a callee reads the beginning.
"""

from __future__ import annotations

import ctypes
import tempfile
from pathlib import Path

import numpy as np

from qcc.models import smollm2
from qcc.models.assets import optional

_ROOM = 1024


class _Parameters(ctypes.Structure):
    _fields_ = [("context", ctypes.c_uint32), ("others", ctypes.c_char * _ROOM)]


class _Batch(ctypes.Structure):
    _fields_ = [("count", ctypes.c_int32)] + [
        (name, ctypes.c_void_p)
        for name in ("tokens", "embeddings", "positions", "counts", "sequences", "logits")
    ]


_Logger = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)


class LlamaCpp:
    """A model in a GGUF file, with the best of the CPU libraries in `folder`."""

    def __init__(self, folder: Path, model: Path, threads: int, context: int) -> None:
        loaded = [
            ctypes.CDLL(str(_newest(folder, stem)), mode=ctypes.RTLD_GLOBAL)
            for stem in ("libggml-base", "libggml", "libllama")
        ]
        _, ggml, self._library = loaded
        self._silent = _Logger(lambda *_: None)
        self._library.llama_log_set(self._silent, None)
        ggml.ggml_backend_load_all_from_path(str(folder).encode())
        self._library.llama_backend_init()
        pointer = ctypes.c_void_p
        self._declare("llama_model_default_params", _Parameters)
        self._declare("llama_context_default_params", _Parameters)
        self._declare("llama_model_load_from_file", pointer, ctypes.c_char_p, _Parameters)
        self._declare("llama_init_from_model", pointer, pointer, _Parameters)
        self._declare("llama_set_n_threads", None, pointer, ctypes.c_int32, ctypes.c_int32)
        self._declare("llama_batch_get_one", _Batch, pointer, ctypes.c_int32)
        self._declare("llama_decode", ctypes.c_int32, pointer, _Batch)
        floats = ctypes.POINTER(ctypes.c_float)
        self._declare("llama_get_logits_ith", floats, pointer, ctypes.c_int32)
        self._declare("llama_get_memory", pointer, pointer)
        self._declare("llama_memory_clear", None, pointer, ctypes.c_bool)
        call = self._library
        loaded_model = call.llama_model_load_from_file(
            str(model).encode(), call.llama_model_default_params()
        )
        parameters = call.llama_context_default_params()
        parameters.context = context
        self._context = loaded_model and call.llama_init_from_model(loaded_model, parameters)
        if not self._context:
            raise OSError(f"llama.cpp cannot open {model}")
        call.llama_set_n_threads(self._context, threads, threads)

    def clear(self) -> None:
        self._library.llama_memory_clear(self._library.llama_get_memory(self._context), True)

    def step(self, tokens: np.ndarray, vocabulary: int) -> np.ndarray:
        """The logits of the last of `tokens` [T], which follow those before."""
        given = np.ascontiguousarray(tokens, np.int32)
        batch = self._library.llama_batch_get_one(given.ctypes.data, len(given))
        if self._library.llama_decode(self._context, batch):
            raise OSError("llama.cpp failed to evaluate tokens")
        logits = self._library.llama_get_logits_ith(self._context, -1)
        return np.ctypeslib.as_array(logits, (vocabulary,)).copy()

    def _declare(self, name: str, result: object, *arguments: object) -> None:
        function = getattr(self._library, name)
        function.restype, function.argtypes = result, list(arguments)


def smollm2_q4_0(folder: Path, threads: int, context: int) -> LlamaCpp:
    """SmolLM2-135M with linear layers in Q4_0, by the libraries in `folder`."""
    with tempfile.TemporaryDirectory(prefix="qcc-benchmark-") as scratch:
        path = Path(scratch) / "model.gguf"
        _write_q4_0(path)
        return LlamaCpp(folder, path, threads, context)


def _write_q4_0(path: Path) -> None:
    """SmolLM2-135M with its Q4_1 linears rounded anew to Q4_0, everything else as it is."""
    gguf = optional("gguf")
    reader = gguf.GGUFReader(smollm2.SMOLLM2.locate())
    writer = gguf.GGUFWriter(path, "llama")
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key == "general.architecture":
            continue
        value = 2 if key == "general.file_type" else field.contents()
        is_array = field.types[0] == gguf.GGUFValueType.ARRAY
        writer.add_key_value(key, value, field.types[0], field.types[-1] if is_array else None)
    kinds = gguf.GGMLQuantizationType
    for tensor in reader.tensors:
        data, kind = np.array(tensor.data), tensor.tensor_type
        if kind == kinds.Q4_1:
            plain = gguf.dequantize(tensor.data, kind).astype(np.float32)
            data, kind = gguf.quantize(plain, kinds.Q4_0), kinds.Q4_0
        writer.add_tensor(tensor.name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _newest(folder: Path, stem: str) -> Path:
    found = sorted([*folder.glob(f"{stem}.so*"), *folder.glob(f"{stem}.*.so")])
    if not found:
        raise OSError(f"{folder} has no {stem}.so")
    return found[-1]
