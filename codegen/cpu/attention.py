"""
The attention kernels: softmax(scale * query key^T + mask) value, a segment of keys at a time.

Keys are cut into segments of a fixed number. Each segment gives a row its highest score, the sum
of its weights and the weighted sum of its values; segments are folded in their order, each with
the factors that turn its highest score into the one of all so far (`SegmentBody`). A row's result
so depends neither on the other rows, nor on the threads, nor on how many rows come in one call:
what a step over a cache gives is what the whole gives, bit for bit, whichever kernel computes it.

* Few rows (`attention_few.py`), as in decoding: a unit of work is one segment of one key head,
  read straight from its packed bytes, so that threads share even a single head. A second kernel
  (`attention_fold.py`) folds what the units found.
* Many rows (`attention_many.py`), as for a prompt: a unit is a block of queries with all heads
  that share a key head. It decodes each segment once, and multiplies it through register tiles.

Rows are read with a head pitch, so that a KV cache with spare capacity and a plain tensor are the
same thing to the kernels.
"""

from __future__ import annotations

from dataclasses import dataclass

from .attention_few import FewRows
from .attention_fold import fold_launcher
from .attention_many import ManyRows, query_blocks
from .attention_segment import ARGUMENTS, Attention
from .call_site import CallSite
from .emit import Val, branch, select, size
from .library import Arguments, KernelLibrary, grain_of

FEW = 16  # rows of a key head; for more, a panel of decoded rows costs less than decoding again


@dataclass(frozen=True, slots=True)
class Extents:
    """The sizes of one attention; `keys` counts those in a cache too."""

    batch: Val
    heads: Val
    key_heads: Val
    queries: Val
    keys: Val

    @property
    def planes(self) -> Val:
        return self.batch * self.key_heads

    @property
    def group(self) -> Val:
        """Rows of a key head: the queries of all heads that share it."""
        return self.heads // self.key_heads * self.queries


def launch_attention(
    site: CallSite, attention: Attention, extents: Extents, given: dict[str, Val], rows: list[Val]
) -> None:
    """
    The launches that compute `attention`.

    `given` are the ARGUMENTS that `extents` does not tell: addresses, the keys `past` before the
    first query, the rows between two key heads (`pitch`), the mask's strides. `rows` are the parts
    of the keys, with their marks if they are packed, and the same of the values.
    """
    few = _are_few(extents.group)
    segments, result_rows = attention.segments(extents.keys), extents.planes * extents.group
    records = select(few, segments * result_rows, size(0))
    partials = site.buffer(records * attention.record)
    named = {
        **given, "partials": partials, "heads": extents.heads, "key_heads": extents.key_heads,
        "queries": extents.queries, "keys": extents.keys,
    }  # fmt: skip
    blocks = query_blocks(extents.heads // extents.key_heads, extents.queries)
    units = extents.planes * select(few, segments, blocks)
    work = result_rows * extents.keys * (attention.keys.k + attention.values.k)
    launcher = attention_launcher(site.library, attention)
    arguments = [*(named[name] for name in ARGUMENTS), *rows]
    site.launch(launcher, arguments, units, grain_of(units, work))
    folded = select(few, result_rows, size(0))
    arguments = [given["result"], partials, extents.group, segments]
    grain = grain_of(folded, records * attention.record)
    site.launch(fold_launcher(site.library, attention), arguments, folded, grain)


def attention_launcher(library: KernelLibrary, attention: Attention) -> str:
    """The launcher of `attention`; arguments as named in ARGUMENTS, then its rows."""

    def emit(arguments: Arguments, begin: Val, end: Val) -> None:
        few = FewRows(attention, library, arguments)
        many = ManyRows(attention, library, arguments)
        branch(_are_few(few.group), lambda: few.run(begin, end), lambda: many.run(begin, end))

    return library.launcher(attention.key, len(ARGUMENTS) + attention.array_count(), emit)


def _are_few(group: Val) -> Val:
    return group.compare("le", FEW)
