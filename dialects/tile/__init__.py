"""Index of the `tile` dialect: its types and its ops, in the order a program meets them."""

from .compute import CombineOp, DecodeOp, MapOp, MmaOp, RescaleOp, ZerosOp
from .control import (
    BlockOffsetOp,
    BlockRangeOp,
    KernelOp,
    PipelineOp,
    ReturnOp,
    StepsOp,
    YieldOp,
)
from .default_schedule import default_schedule
from .dialect import FragmentType, GlobalType, SharedType, Tile
from .group import GroupSchedule
from .group_op import GroupOp, OutputOp
from .host_ops import CacheOp, CapacityOp, LaunchOp
from .movement import CopyOp, LoadOp, ReadOp, StoreOp
from .problem import LinearProblem
from .schedule import Schedule, illegal

__all__ = [
    "BlockOffsetOp",
    "BlockRangeOp",
    "CacheOp",
    "CapacityOp",
    "CombineOp",
    "CopyOp",
    "DecodeOp",
    "FragmentType",
    "GlobalType",
    "GroupOp",
    "GroupSchedule",
    "KernelOp",
    "LaunchOp",
    "LinearProblem",
    "LoadOp",
    "MapOp",
    "MmaOp",
    "OutputOp",
    "PipelineOp",
    "ReadOp",
    "RescaleOp",
    "ReturnOp",
    "Schedule",
    "SharedType",
    "StepsOp",
    "StoreOp",
    "Tile",
    "YieldOp",
    "ZerosOp",
    "default_schedule",
    "illegal",
]
