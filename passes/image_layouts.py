"""
How images of integers lie in memory between convolutions, as the schedules of their readers say.

    q = conv2d …, rounded to codes             q = conv2d …: codes, [N / n, C / c, H, W, n, c]
    y = conv2d q … {image_blocks}       =>     y = conv2d q …, which reads these blocks

The epilogue of the convolution that makes codes writes the layout that is read, or the kernel that
rounds the input of the first one; the last one writes its result as the model has it. So nothing is
copied. Codes with several readers are in blocks where all of them want it. The same integers are
added up: results are equal bit by bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..dialects import qcc
from ..dialects.bindings import ir
from .activation_codes import image_layout, laid_out
from .conv_layers import NHWC, Layer


def lay_out_images(layers: Sequence[Layer]) -> None:
    """Settles layouts that the schedules of layers ask for; their problems say them afterwards."""
    made = {layer.requantised.quantize.codes: layer for layer in layers if layer.requantised}
    for codes, producer in made.items():
        _agree(producer, [layer for layer in layers if layer.codes == codes])
    for layer in layers:
        blocks = layer.codes is not None and layer.schedule.image_blocks
        if layer.codes is not None and layer.codes not in made:
            layer.codes = laid_out(layer.codes, image_layout(layer.problem.activation, blocks))
        layer.problem = layer.problem.in_blocks() if blocks else replace(layer.problem, blocks=None)


def _agree(producer: Layer, readers: list[Layer]) -> None:
    """The result of a producer in the layout of its readers."""
    if all(reader.schedule.image_blocks for reader in readers):
        images, channels = readers[0].problem.blocks or (1, NHWC)
        producer.problem = replace(producer.problem, result_images=images, result_block=channels)
        return
    for reader in readers:
        reader.schedule = replace(reader.schedule, image_blocks=False)


def readers_of(codes: ir.Value, layers: Sequence[Layer]) -> list[Layer] | None:
    """The convolutions that multiply codes as such, None if anything else reads them."""
    readers = []
    for use in codes.uses:
        decoded = use.owner
        if not isinstance(decoded, qcc.DequantizeOp):
            return None
        for each in decoded.value.uses:
            found = [layer for layer in layers if layer.op == each.owner and layer.codes == codes]
            if not found:
                return None
            readers += found
    return readers
