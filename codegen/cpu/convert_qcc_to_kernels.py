"""
Replace every qcc op by launches of CPU kernels, and what DPUs compute by calls.

    qcc.linear %x, %w            =>   %y = alloc; kernel(&x, &y, &w.codes, &w.scale, …)
    qcc.param @p : tensor<…>     =>   a view of the parameter's bytes

Exact up to the order of fp32 sums, which the dialect leaves open. Packed parameters are handed
to kernels as the addresses of their storage parts and never decoded to memory as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ...dialects import qcc
from ...dialects.bindings import bufferization, ir
from ...dialects.cpu.schedule import ScheduledLayer
from ...dialects.regions import walk
from .attention import Extents, launch_attention
from .attention_segment import Attention
from .call_site import CallSite, replace_op, view
from .convolution import convert_conv2d
from .decode import PlainReader
from .device_calls import convert_device_call, convert_function_call, drop_device_program
from .emit import Val, size
from .features import host_features
from .gemm import Contraction, contraction_launcher
from .integer_convolution import IntegerConvolutions
from .integer_layers import IntegerLayers
from .kv_cache import extend_cache, plain_rows
from .library import KernelLibrary, grain_of
from .matmul import convert_matmul
from .panel_layers import PanelLayers
from .panel_row import panel_embedding_launcher
from .round_trip import convert_dequantize
from .rows import Norm, embedding_launcher, norm_launcher
from .schedules import schedule_of
from .weights import weight_panels, weight_source

Rules = dict[str, Callable[[CallSite, Any], None]]


def convert_qcc_to_kernels(module: ir.Module, features: Iterable[str] | None = None) -> CallSite:
    """
    Rewrite `module` in place, for a processor that has `features`: by default, this one.

    The returned site holds the kernels, to be linked once the main function is bufferized, and
    the parameters and caches in the order of the runtime's tables.
    """
    usable = frozenset(host_features() if features is None else features)
    site = CallSite(module, KernelLibrary(module, usable))
    integers: Rules = {
        "qcc.linear": IntegerLayers().convert,
        "qcc.conv2d": IntegerConvolutions().convert,
    }
    panels: Rules = {"qcc.linear": PanelLayers().convert}
    for rules in (integers, panels, RULES, {"qcc.param": convert_param}):
        for op in [each for each in walk(module) if each.operation.name in rules]:
            with ir.InsertionPoint(op), op.location:
                rules[op.operation.name](site, op)
    return site


def scheduled_layers(module: ir.Module) -> list[ScheduledLayer]:
    """
    The layers of `module` that have schedules on this processor, each name once.

    It is converted to know, for that decides which kernel a layer gets; `module` stays as it is.
    """
    text = module.operation.get_asm(enable_debug_info=True)
    site = convert_qcc_to_kernels(ir.Module.parse(text, module.context))
    return list({layer.name: layer for layer in reversed(site.scheduled)}.values())[::-1]


def convert_linear(site: CallSite, op: qcc.LinearOp) -> None:
    n, k = qcc.logical_type(op.weight.type).shape
    rank = ir.RankedTensorType(op.input.type).rank
    leading = {axis: site.extent(op.input, axis) for axis in range(rank - 1)}
    m = site.extents(op.input, range(rank - 1))
    value, address = site.result(op.result.type, site.dynamic_like(op.result.type, leading))
    bias = site.address(op.bias) if op.bias is not None else size(0)
    source, parts = weight_source(site, op.weight, k)
    schedule = schedule_of(site, op, integers=False) if isinstance(source, PlainReader) else None
    by_rows = schedule is not None and k > 0 and "avx512vl" in site.library.features
    contraction = Contraction(n, k, source, op.bias is not None, schedule, by_rows)
    launcher = contraction_launcher(site.library, contraction)
    arguments = [site.address(op.input), address, bias, m, *parts]
    total = contraction.total(m)
    site.launch(launcher, arguments, total, grain_of(total, m * (n * k)))
    replace_op(op, value)


def convert_attention(site: CallSite, op: qcc.AttentionOp) -> None:
    query, key = op.query, op.key
    batch, heads, queries = (site.extent(query, axis) for axis in range(3))
    key_heads, keys = site.extent(key, 1), site.extent(key, 2)
    sizes = {0: batch, 1: heads, 2: queries}
    result, address = site.result(op.result.type, site.dynamic_like(op.result.type, sizes))
    given = {"query": site.address(query), "result": address, "past": size(0), "pitch": keys}
    given |= _mask_arguments(site, op.mask)
    if op.past is None:
        key_rows, value_rows = plain_rows(site, key), plain_rows(site, op.value)
    else:
        given["past"] = site.scalar(op.past)
        given["pitch"], key_rows, value_rows = extend_cache(site, op, given["past"])
        keys = given["past"] + keys
    attention = Attention(
        key_rows.source,
        value_rows.source,
        ir.FloatAttr(op.scale).value,
        ir.BoolAttr(op.causal).value,
        op.mask is not None,
        _heads_of_a_key_head(query.type, key.type),
    )
    extents = Extents(batch, heads, key_heads, queries, keys)
    arrays = [*key_rows.arrays, *value_rows.arrays]
    launch_attention(site, attention, extents, given, arrays)
    replace_op(op, result)


def _heads_of_a_key_head(query: ir.Type, key: ir.Type) -> int | None:
    heads, key_heads = (ir.RankedTensorType(type_).shape[1] for type_ in (query, key))
    if ir.ShapedType.get_dynamic_size() in (heads, key_heads) or not key_heads:
        return None
    return heads // key_heads


def _mask_arguments(site: CallSite, mask: ir.Value | None) -> dict[str, Val]:
    """Address and strides (0 along broadcast axes) for batch, head, query and key."""
    strides = dict.fromkeys(("mask_batch", "mask_head", "mask_query", "mask_key"), size(0))
    if mask is None:
        return {"mask": size(0), **strides}
    shape = ir.RankedTensorType(mask.type)
    step = size(1)
    names = list(strides)[4 - shape.rank :]
    for axis in reversed(range(shape.rank)):
        if shape.is_dynamic_dim(axis) or shape.shape[axis] != 1:
            strides[names[axis]] = step
        step = step * site.extent(mask, axis)
    return {"mask": site.address(mask), **strides}


def convert_embedding(site: CallSite, op: qcc.EmbeddingOp) -> None:
    rows, k = qcc.logical_type(op.table.type).shape
    rank = ir.RankedTensorType(op.indices.type).rank
    leading = {axis: site.extent(op.indices, axis) for axis in range(rank)}
    value, address = site.result(op.result.type, site.dynamic_like(op.result.type, leading))
    total = site.extents(op.indices, range(rank))
    panels = weight_panels(site, op.table)
    if panels is not None:
        source, parts = panels
        launcher = panel_embedding_launcher(site.library, source)
    else:
        source, parts = weight_source(site, op.table, k)
        launcher = embedding_launcher(site.library, source)
    arguments = [site.address(op.indices), address, size(rows), *parts]
    site.launch(launcher, arguments, total, grain_of(total))
    replace_op(op, value)


def convert_norm(site: CallSite, op: qcc.LayerNormOp | qcc.RmsNormOp) -> None:
    shape = ir.RankedTensorType(op.input.type)
    axes = ir.IntegerAttr(op.axes).value
    length = 1
    for extent in shape.shape[shape.rank - axes :]:
        length *= extent
    bias = op.bias if isinstance(op, qcc.LayerNormOp) else None
    norm = Norm(
        length,
        ir.FloatAttr(op.epsilon).value,
        centred=isinstance(op, qcc.LayerNormOp),
        has_weight=op.weight is not None,
        has_bias=bias is not None,
    )
    rows = site.extents(op.input, range(shape.rank - axes))
    sizes = {axis: site.extent(op.input, axis) for axis in range(shape.rank)}
    value, address = site.result(op.result.type, site.dynamic_like(op.result.type, sizes))
    optional = [size(0) if part is None else site.address(part) for part in (op.weight, bias)]
    launcher = norm_launcher(site.library, norm)
    site.launch(launcher, [site.address(op.input), *optional, address], rows, grain_of(rows))
    replace_op(op, value)


def convert_param(site: CallSite, op: qcc.ParamOp) -> None:
    """What kernels did not take by address becomes a tensor over the parameter's bytes."""
    if list(op.value.uses):
        type_ = ir.RankedTensorType(op.value.type)
        address = site.parameters.address(ir.StringAttr(op.symbol).value)
        value = bufferization.to_tensor(type_, view(address, type_), restrict=True)
        op.value.replace_all_uses_with(value)
    op.operation.erase()


RULES: Rules = {
    "pim.kernel": drop_device_program,
    "pim.linear": convert_device_call,
    "pim.function": convert_function_call,
    "qcc.attention": convert_attention,
    "qcc.conv2d": convert_conv2d,
    "qcc.dequantize": convert_dequantize,
    "qcc.embedding": convert_embedding,
    "qcc.layer_norm": convert_norm,
    "qcc.linear": convert_linear,
    "qcc.matmul": convert_matmul,
    "qcc.rms_norm": convert_norm,
}
