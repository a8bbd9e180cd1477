"""Index of the `pim` dialect: its types and its ops, in the order a program meets them."""

from .compute import LookupAccumulateOp, Mul8Op
from .device import DEVICES, Device, device
from .dialect import DpusType, MramType, Pim, WramType
from .host import BroadcastOp, DeviceOp, FunctionOp, GatherOp, LaunchOp, LinearOp, ShardOp
from .kernel import BarrierOp, KernelOp, LoopOp, OrderOp, ReturnOp, TaskletOp, YieldOp
from .memory import (
    CopyInOp,
    CopyOutOp,
    DmaInOp,
    DmaOutOp,
    LoadOp,
    SliceLoadOp,
    StoreOp,
    WramAllocOp,
)
from .profile import read_profile
from .tables import CanonicalTableOp, PackedTableOp, ReorderTableOp

__all__ = [
    "DEVICES",
    "BarrierOp",
    "BroadcastOp",
    "CanonicalTableOp",
    "CopyInOp",
    "CopyOutOp",
    "Device",
    "DeviceOp",
    "DmaInOp",
    "DmaOutOp",
    "DpusType",
    "FunctionOp",
    "GatherOp",
    "KernelOp",
    "LaunchOp",
    "LinearOp",
    "LoadOp",
    "LookupAccumulateOp",
    "LoopOp",
    "MramType",
    "Mul8Op",
    "OrderOp",
    "PackedTableOp",
    "Pim",
    "ReorderTableOp",
    "ReturnOp",
    "ShardOp",
    "SliceLoadOp",
    "StoreOp",
    "TaskletOp",
    "WramAllocOp",
    "WramType",
    "YieldOp",
    "device",
    "read_profile",
]
