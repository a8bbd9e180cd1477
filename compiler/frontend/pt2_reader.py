"""
Programs from `.pt2` archives, read without torch.export.load.

torch's own loader can run code from a file in six ways (pickled sample inputs, pickled or legacy
weights, opaque constants, size text, guard code). Here the archive is plain data: listed members
only, strict JSON, raw tensor bytes left on disk, a graph of listed operators whose results are
derived again. Sample inputs and extra files are not even read; guards are dropped and follow
from the range constraints.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import fx, nn
from torch._export.verifier import SpecViolationError, load_verifier
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import ExportedProgram
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from ...dialects.errors import UnsupportedError
from .archive import Archive, open_archive
from .pt2_arguments import malformed
from .pt2_graph import GraphBuilder
from .pt2_payload import (
    MAX_JSON,
    ArchiveSource,
    extents_of,
    fake_payloads,
    read_payloads,
    refuse,
)
from .pt2_schema import (
    GraphModule,
    InputSpec,
    Payload,
    Program,
    SymInt,
    decode_program,
)
from .pt2_signature import call_entry_of, lifted_inputs, signature_of
from .pt2_sizes import InputSizes, check_expressions
from .torch_weights import to_torch

_MEMBERS = {
    "graph": re.compile(r"models/(?P<model>[A-Za-z0-9_-]+)\.json\Z"),
    "weights": re.compile(r"data/weights/(?P<model>[A-Za-z0-9_-]+)_weights_config\.json\Z"),
    "constants": re.compile(r"data/constants/(?P<model>[A-Za-z0-9_-]+)_constants_config\.json\Z"),
    "bytes": re.compile(r"data/(weights/weight|constants/tensor)_\d{1,9}\Z"),
    "unread": re.compile(r"(data/sample_inputs/[A-Za-z0-9_-]+\.pt|extra/.+)\Z"),
    "note": re.compile(r"(archive_format|archive_version|byteorder|\.data/[a-z_]+|\.[a-z_]+)\Z"),
}
_NOTES = {"archive_format": b"pt2", "byteorder": b"little"}
_MAX_CONSTANTS = 1 << 28
_DIALECTS = ("TRAINING", "ATEN")


@dataclass(frozen=True)
class Pt2Model:
    """
    A program whose weights are fake, the source of their bytes, and what has none.

    `program` is a torch ExportedProgram: graph nodes carry fake tensors in `meta["val"]` and the
    recorded `meta["stack_trace"]`. Its parameters and buffers are fake; constants lifted out of
    `forward` are real, as they are part of the code. `without_bytes` names tensors that were saved
    without values
    (a model exported on the meta device); they must come from another source.
    """

    program: ExportedProgram
    weights: ArchiveSource
    without_bytes: tuple[str, ...]


def read_pt2(path: str | Path) -> Pt2Model:
    """
    Read what torch.export.save wrote, running nothing from the file.

    Raises IntegrityError for damage and for members that could carry code, UnsupportedError for
    operators and tensor kinds that qcc does not read.
    """
    with open_archive(path) as archive:
        layout = _layout(archive)
        program = decode_program(archive.read(layout["graph"], MAX_JSON), layout["graph"])
        payloads = {
            **read_payloads(archive, layout["weights"], "weights/weight"),
            **read_payloads(archive, layout["constants"], "constants/tensor"),
        }
        extents, empty = extents_of(archive, layout["root"], payloads)
    exported = build_program(
        program, {name: payload for name, (payload, _) in payloads.items()}, empty
    )
    weights = ArchiveSource(archive.path, extents, archive.stored())
    _load_constants(exported, weights)
    return Pt2Model(exported, weights, empty)


def is_pt2(names: Iterable[str]) -> bool:
    """Whether an archive with these members claims to be a `.pt2`."""
    return any(name.partition("/")[2] == "archive_format" for name in names)


def build_program(
    program: Program, payloads: Mapping[str, Payload], without_bytes: Collection[str] = ()
) -> ExportedProgram:
    """The checked JSON of a program as a torch ExportedProgram with fake tensors."""
    module = program.graph_module
    _check_program(program)
    check_expressions(module.graph)
    mode = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=False)
    assert mode.shape_env is not None
    sizes = InputSizes(_input_sizes(module), program.range_constraints, mode.shape_env)
    tensors = fake_payloads(mode, sizes, payloads, without_bytes)
    lifted = lifted_inputs(module.signature.input_specs, tensors)
    builder = GraphBuilder(module.graph, sizes, mode)
    graph = builder.build(module.signature.input_specs, lifted)
    _check_free(sizes)
    signature = signature_of(module.signature, builder)
    constants = {name for spec in module.signature.input_specs for name in _constant_name(spec)}
    try:
        return ExportedProgram(
            root=fx.GraphModule(nn.Module(), graph),
            graph=graph,
            graph_signature=signature,
            state_dict={name: t for name, t in tensors.items() if name not in constants},
            range_constraints=sizes.ranges,
            module_call_graph=[call_entry_of(module, signature)],
            constants={name: t for name, t in tensors.items() if name in constants},
            verifiers=[load_verifier(name) for name in program.verifiers or _DIALECTS[:1]],
        )
    except (SpecViolationError, RuntimeError, AssertionError, SyntaxError, KeyError) as error:
        malformed(f"torch's verifier rejects the program: {error}")


def _load_constants(program: ExportedProgram, weights: ArchiveSource) -> None:
    """Give lifted constants their values; UnsupportedError if they are large enough to be data."""
    names = set(program.graph_signature.inputs_to_lifted_tensor_constants.values())
    names &= set(weights.names())
    total = sum(weights.info(name).nbytes for name in names)
    if total > _MAX_CONSTANTS:
        raise UnsupportedError(
            "pt2-constants-large",
            f"the program holds {total} bytes of tensors that are not parameters or buffers",
            next_step="register them in the model with register_buffer and export it again",
        )
    for name in names:
        program.constants[name] = to_torch(weights.read(name))


def _layout(archive: Archive) -> dict[str, str]:
    """The member of each role, after checking that every member has one."""
    roots = {name.partition("/")[0] for name in archive.names()}
    if len(roots) != 1:
        refuse(archive, "its members do not share one folder")
    root = roots.pop()
    layout = {"root": root}
    for member in archive.names():
        inner = member.removeprefix(f"{root}/")
        role = next((role for role, form in _MEMBERS.items() if form.match(inner)), None)
        if role is None:
            refuse(archive, f"it holds '{inner[:80]}', which may carry code or is of no use here")
        if role in ("graph", "weights", "constants"):
            if role in layout:
                refuse(archive, f"it holds more than one program: '{inner[:80]}'")
            layout[role] = member
        elif inner in _NOTES and archive.read(member, 64).strip() != _NOTES[inner]:
            refuse(archive, f"its {inner} is not {_NOTES[inner].decode()}")
    missing = {"graph", "weights", "constants"} - layout.keys()
    if missing:
        refuse(archive, f"it has no {' and no '.join(sorted(missing))}")
    return layout


def _input_sizes(module: GraphModule) -> list[SymInt]:
    """Every recorded size of the user's inputs, in order."""
    found: list[SymInt] = []
    for spec in module.signature.input_specs:
        if spec.kind != "user_input":
            continue
        argument = spec.content.arg
        name = getattr(argument.content, "name", None) or getattr(argument.content, "as_name", None)
        if name in module.graph.tensor_values:
            meta = module.graph.tensor_values[name]
            found += [*meta.sizes, *meta.strides]
        elif name in module.graph.sym_int_values:
            found.append(module.graph.sym_int_values[name])
    return found


def _constant_name(spec: InputSpec) -> Iterable[str]:
    """The name that lives in `constants`, not in the state dict."""
    if spec.kind == "tensor_constant":
        yield spec.content.tensor_constant_name
    elif spec.kind == "buffer" and not spec.content.persistent:
        yield spec.content.buffer_name


def _check_program(program: Program) -> None:
    unknown = [name for name in program.verifiers if name not in _DIALECTS]
    if unknown:
        raise UnsupportedError(
            "pt2-dialect",
            f"the program is in the dialect {unknown[0][:40]!r}",
            why="qcc reads what torch.export.export and run_decompositions() make",
            next_step="save the program before it is lowered to another runtime",
        )
    if program.graph_module.graph.custom_obj_values:
        malformed("the graph holds script objects")


def _check_free(sizes: InputSizes) -> None:
    """Deriving the graph must leave every size that the file calls dynamic free."""
    for symbol in sizes.ranges:
        fixed = sizes.env.replacements.get(symbol)
        if fixed is not None and fixed.is_number:
            raise UnsupportedError(
                "pt2-size-fixed",
                f"the dynamic size {symbol} can only be {fixed}",
                why="an operator of the graph allows no other value",
                next_step=f"export the model with that axis static at {fixed}",
            )
