"""
The JSON members of a `.pt2` archive as strict records.

Field names and unions are those of torch's export schema, major version 8. A union is written as
an object with exactly one key, here a record with exactly one field set. Unknown fields,
missing fields and wrong types are refused by msgspec; what qcc does not read (module call
signatures of submodules, guards, version notes) is still checked for its shape.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from ...dialects.errors import IntegrityError

SCHEMA_MAJOR = 8

Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Name = Annotated[str, Meta(max_length=512, pattern=r"^[A-Za-z_][A-Za-z0-9_]*\Z")]
# A dotted path of a parameter. No part may be special to Python, and no character may be special
# in the source text that torch.fx writes from a graph.
Path = Annotated[
    str,
    Meta(max_length=1024, pattern=r"^(?!__)[A-Za-z0-9_-]+(\.(?!__)[A-Za-z0-9_-]+)*\Z"),
]
Number = float | Literal["Infinity", "-Infinity", "NaN"]


class Record(Struct, forbid_unknown_fields=True):
    """A record of the schema: every field named, none extra."""


class Union(Record):
    """A record of which exactly one field is set."""

    def __post_init__(self) -> None:
        if len(self.fields_set()) != 1:
            raise ValueError(f"a {type(self).__name__} names exactly one kind")

    def fields_set(self) -> list[str]:
        return [name for name in self.__struct_fields__ if getattr(self, name) is not UNSET]

    @property
    def kind(self) -> str:
        return self.fields_set()[0]

    @property
    def content(self) -> Any:
        return getattr(self, self.kind)


class Hint(Union):
    as_int: Int64 | UnsetType = UNSET
    as_bool: bool | UnsetType = UNSET
    as_float: Number | UnsetType = UNSET


class SymExpr(Record):
    expr_str: Annotated[str, Meta(max_length=4096)]
    hint: Hint | None = None


class SymInt(Union):
    as_expr: SymExpr | UnsetType = UNSET
    as_int: Int64 | UnsetType = UNSET


class SymFloat(Union):
    as_expr: SymExpr | UnsetType = UNSET
    as_float: Number | UnsetType = UNSET


class SymBool(Union):
    as_expr: SymExpr | UnsetType = UNSET
    as_bool: bool | UnsetType = UNSET


class Device(Record):
    type: Annotated[str, Meta(pattern=r"^[a-z]{1,12}\Z")]
    index: int | None = None


class TensorMeta(Record):
    dtype: int
    sizes: list[SymInt]
    requires_grad: bool
    device: Device
    strides: list[SymInt]
    storage_offset: SymInt
    layout: int


class Named(Record):
    """A reference to a value of the graph."""

    name: Name


class SymIntArgument(Union):
    as_name: Name | UnsetType = UNSET
    as_int: Int64 | UnsetType = UNSET


class SymFloatArgument(Union):
    as_name: Name | UnsetType = UNSET
    as_float: Number | UnsetType = UNSET


class SymBoolArgument(Union):
    as_name: Name | UnsetType = UNSET
    as_bool: bool | UnsetType = UNSET


class OptionalTensor(Union):
    as_tensor: Named | UnsetType = UNSET
    as_none: bool | UnsetType = UNSET


class Complex(Record):
    real: Number
    imag: Number


class Argument(Union):
    """A value passed to, or made by, a node. Kinds that could carry code are kept opaque."""

    as_none: bool | UnsetType = UNSET
    as_tensor: Named | UnsetType = UNSET
    as_tensors: list[Named] | UnsetType = UNSET
    as_int: Int64 | UnsetType = UNSET
    as_ints: list[Int64] | UnsetType = UNSET
    as_float: Number | UnsetType = UNSET
    as_floats: list[Number] | UnsetType = UNSET
    as_string: str | UnsetType = UNSET
    as_strings: list[str] | UnsetType = UNSET
    as_sym_int: SymIntArgument | UnsetType = UNSET
    as_sym_ints: list[SymIntArgument] | UnsetType = UNSET
    as_scalar_type: int | UnsetType = UNSET
    as_memory_format: int | UnsetType = UNSET
    as_layout: int | UnsetType = UNSET
    as_device: Device | UnsetType = UNSET
    as_bool: bool | UnsetType = UNSET
    as_bools: list[bool] | UnsetType = UNSET
    as_sym_bool: SymBoolArgument | UnsetType = UNSET
    as_sym_bools: list[SymBoolArgument] | UnsetType = UNSET
    as_graph: msgspec.Raw | UnsetType = UNSET
    as_optional_tensors: list[OptionalTensor] | UnsetType = UNSET
    as_custom_obj: msgspec.Raw | UnsetType = UNSET
    as_operator: msgspec.Raw | UnsetType = UNSET
    as_sym_float: SymFloatArgument | UnsetType = UNSET
    as_sym_floats: list[SymFloatArgument] | UnsetType = UNSET
    as_optional_tensor: OptionalTensor | UnsetType = UNSET
    as_complex: Complex | UnsetType = UNSET
    as_nested_tensors: list[list[Named]] | UnsetType = UNSET
    as_int_lists: list[list[Int64]] | UnsetType = UNSET
    as_string_to_argument: msgspec.Raw | UnsetType = UNSET
    as_float_lists: list[list[Number]] | UnsetType = UNSET


class NamedArgument(Record):
    name: Annotated[str, Meta(max_length=512)]
    arg: Argument
    kind: Annotated[int, Meta(ge=0, le=2)] | None = None


class Node(Record):
    target: Annotated[str, Meta(max_length=512)]
    inputs: list[NamedArgument]
    outputs: list[Argument]
    metadata: dict[str, str]
    is_hop_single_tensor_return: bool | None = None
    name: Name | None = None


class Graph(Record):
    inputs: list[Argument]
    outputs: list[Argument]
    nodes: list[Node]
    tensor_values: dict[str, TensorMeta]
    sym_int_values: dict[str, SymInt]
    sym_bool_values: dict[str, SymBool]
    is_single_tensor_return: bool = False
    custom_obj_values: dict[str, msgspec.Raw] = {}
    sym_float_values: dict[str, SymFloat] = {}


class ConstantValue(Union):
    as_none: bool | UnsetType = UNSET
    as_int: Int64 | UnsetType = UNSET
    as_float: Number | UnsetType = UNSET
    as_string: str | UnsetType = UNSET
    as_bool: bool | UnsetType = UNSET


class UserValue(Record):
    arg: Argument


class ConstantInput(Record):
    name: Name | Literal[""]
    value: ConstantValue


class ParameterInput(Record):
    arg: Named
    parameter_name: Path


class BufferInput(Record):
    arg: Named
    buffer_name: Path
    persistent: bool


class TensorConstantInput(Record):
    arg: Named
    tensor_constant_name: Path


class InputSpec(Union):
    user_input: UserValue | UnsetType = UNSET
    parameter: ParameterInput | UnsetType = UNSET
    buffer: BufferInput | UnsetType = UNSET
    tensor_constant: TensorConstantInput | UnsetType = UNSET
    custom_obj: msgspec.Raw | UnsetType = UNSET
    token: msgspec.Raw | UnsetType = UNSET
    constant_input: ConstantInput | UnsetType = UNSET


class BufferMutation(Record):
    arg: Named
    buffer_name: Path


class InputMutation(Record):
    arg: Named
    user_input_name: Name


class ParameterMutation(Record):
    arg: Named
    parameter_name: Path


class OutputSpec(Union):
    user_output: UserValue | UnsetType = UNSET
    loss_output: msgspec.Raw | UnsetType = UNSET
    buffer_mutation: BufferMutation | UnsetType = UNSET
    gradient_to_parameter: msgspec.Raw | UnsetType = UNSET
    gradient_to_user_input: msgspec.Raw | UnsetType = UNSET
    user_input_mutation: InputMutation | UnsetType = UNSET
    token: msgspec.Raw | UnsetType = UNSET
    parameter_mutation: ParameterMutation | UnsetType = UNSET


class Signature(Record):
    input_specs: list[InputSpec]
    output_specs: list[OutputSpec]


class RangeConstraint(Record):
    min_val: Int64 | None
    max_val: Int64 | None


class CallSignature(Record):
    inputs: list[Argument]
    outputs: list[Argument]
    in_spec: str
    out_spec: str
    forward_arg_names: list[Name] | None = None


class CallEntry(Record):
    fqn: str
    signature: CallSignature | None = None


class GraphModule(Record):
    graph: Graph
    signature: Signature
    module_call_graph: list[CallEntry]
    metadata: dict[str, str] = {}
    treespec_namedtuple_fields: dict[str, msgspec.Raw] = {}


class SchemaVersion(Record):
    major: int
    minor: int


class Program(Record):
    """`models/<name>.json`: the whole exported program without its tensors."""

    graph_module: GraphModule
    opset_version: dict[str, int]
    range_constraints: dict[str, RangeConstraint]
    schema_version: SchemaVersion
    verifiers: list[str] = []
    torch_version: str = ""
    guards_code: list[str] = []


class Payload(Record):
    path_name: Annotated[str, Meta(max_length=512)]
    is_param: bool
    use_pickle: bool
    tensor_meta: TensorMeta | None


class PayloadConfig(Record):
    """`data/weights/*_weights_config.json` and its twin for constants."""

    config: dict[Path, Payload]


class _Versioned(Struct):
    schema_version: SchemaVersion


R = TypeVar("R", bound=Record)


def decode(data: bytes, kind: type[R], where: str) -> R:
    """`data` as a record of `kind`, or IntegrityError with the place msgspec names."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise IntegrityError(
            "pt2-malformed",
            f"'{where}' does not follow torch's export schema",
            where=where,
            why=str(error),
            next_step="export the model again with torch.export.save of torch 2.10 or later",
        ) from error


def decode_program(data: bytes, where: str) -> Program:
    """The exported program, its schema's major version checked before anything else."""
    try:
        version = msgspec.json.decode(data, type=_Versioned).schema_version
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise IntegrityError(
            "pt2-malformed",
            f"'{where}' is not an exported program",
            where=where,
            why=str(error),
            next_step="export the model again with torch.export.save",
        ) from error
    if version.major != SCHEMA_MAJOR:
        raise IntegrityError(
            "pt2-schema-version",
            f"the program is written in export schema {version.major}.{version.minor}",
            where=where,
            why=f"qcc reads major version {SCHEMA_MAJOR} only",
            next_step="export the model again with a torch that qcc supports (2.10 to 2.13)",
        )
    return decode(data, Program, where)
