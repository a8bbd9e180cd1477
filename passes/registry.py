"""Every pass by name, for pipelines and `qcc opt`."""

from __future__ import annotations

from collections.abc import Callable

from ..dialects.bindings import Operation
from .assign_formats import FormatAssignment, assign_formats
from .assign_x_bytes import assign_x_bytes
from .legalize_dma import legalize_dma
from .legalize_parameters import legalize_parameters
from .lower_torch import lower_torch
from .materialize_kv_cache import materialize_kv_cache
from .name_layers import name_layers
from .pack_kv_cache import pack_kv_cache
from .partition_pim import PimPartition, partition_pim
from .permute_weights import permute_weights
from .raise_torch import Raising, raise_torch
from .round_scalars import round_scalars
from .select_view import ViewSelection, select_view
from .widen_halves import widen_halves

Pass = Callable[[Operation, object], None]

PASSES: dict[str, Pass] = {
    "assign-formats": assign_formats(FormatAssignment()),
    "assign-x-bytes": assign_x_bytes(),
    "legalize-dma": legalize_dma,
    "legalize-parameters": legalize_parameters,
    "lower-torch": lower_torch,
    "materialize-kv-cache": materialize_kv_cache,
    "name-layers": name_layers,
    "pack-kv-cache": pack_kv_cache,
    "partition-pim": partition_pim(PimPartition()),
    "permute-weights": permute_weights,
    "raise-torch": raise_torch(Raising()),
    "round-scalars": round_scalars,
    "select-view": select_view(ViewSelection()),
    "widen-halves": widen_halves,
}

IMPORT_PIPELINE = (
    "raise-torch",
    "round-scalars",
    "widen-halves",
    "legalize-parameters",
    "materialize-kv-cache",
    "lower-torch",
    "name-layers",
)
FIRST_EXECUTABLE = "lower-torch"
"""The pass of IMPORT_PIPELINE from which on the reference interpreter can run the module."""
