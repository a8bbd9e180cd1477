"""A decode program as a device function."""

from __future__ import annotations

from ...dialects.errors import UnsupportedError
from ...dialects.tile.decode_program import DecodeProgram, Source, Step
from .printer import Printer, bits, linear

LEFT_ORDER = (0, 2, 1, 3)
"""Where a stored register of a step stands in the left operand: halves of rows come first there."""

WORDS = {
    "affine": "integers by a magic number",
    "nibbles": "integers by two magic numbers",
    "nested": "two byte planes merged",
    "minifloat": "sign and magnitude moved to their places",
    "table": "a table of values",
    "stored": "as they are stored",
}


def function_name(program: DecodeProgram) -> str:
    """
    >>> from qcc.dialects.formats import format
    >>> from qcc.dialects.tile.decode_rules import decode_program
    >>> function_name(decode_program(format("mxfp4"), "f16"))
    'decode_minifloat4_f16'
    """
    return f"decode_{program.rule}{program.bits}_{program.operand.name.lower()}"


def decode_function(
    out: Printer, program: DecodeProgram, name: str, by_column: bool = False
) -> None:
    """
    The function that makes the left operands of one unit out of a lane's words.

    Zero points are those of the rows, or, `by_column`, of the columns: offsets then are pairs, one
    for each half of the columns of each step.
    """
    steps = program.registers // 4
    exact = "exact" if program.error == 0 else f"within {program.error:.2g} of each value"
    meaning = (
        f"Codes of {program.bits} bits to {program.operand.name}, {WORDS[program.rule]}; {exact}"
    )
    factor = "" if program.factor == 1 else f"; a value is {program.factor:.9g} times what it gives"
    out.comment(f"{meaning}{factor}.")
    if program.units > 1:
        out.comment(f"`unit` counts the {program.units} pieces of a packet.")
    parameters = [f"u32 (&a)[{steps}][4]", f"const u32 (&words)[{program.bits}]"]
    parameters += ["int unit"] * (program.units > 1)
    if program.offsets:
        count = 2 * steps if by_column else 2
        parameters.append(f"const u32 (&offsets)[{len(program.offsets)}][{count}]")
    registers = offset_registers(program) if by_column else {}
    if program.table:
        parameters.append("Shared<u8> table")
    with out.block(f"QCC_DEVICE void {name}({', '.join(parameters)})"):
        for index, word in enumerate(_words(program)):
            out.line(f"const u32 w{index} = {word};")
        for step in program.steps:
            value = _expression(program, step, registers.get(step.result))
            out.line(f"const u32 {step.result} = {value};")
        for register, value in enumerate(program.outputs):
            place = f"a[{register // 4}][{LEFT_ORDER[register % 4]}]"
            out.line(f"{place} = {value};")


def _words(program: DecodeProgram) -> list[str]:
    """Where each input word stands among a lane's words, plane after plane."""
    texts = []
    for plane, index in program.unit_words(0):
        count = program.registers // plane.registers
        first = plane.low + index
        unit = "unit" if program.units > 1 else "0"
        texts.append(f"words[{linear((count, unit), first)}]")
    return texts


def offset_registers(program: DecodeProgram) -> dict[str, int]:
    """
    By step that subtracts a zero point: the register that it makes, of one column each.

    Raises UnsupportedError where registers share such a step.
    """
    steps = {step.result: step for step in program.steps}
    found: dict[str, int] = {}
    for register, output in enumerate(program.outputs):
        pending = [output]
        while pending:
            step = steps.get(pending.pop())
            if step is None:
                continue
            names = [source for source in step.sources if isinstance(source, str)]
            pending += names
            if not any(name.startswith("offset") for name in names):
                continue
            if found.setdefault(step.result, register) != register:
                raise UnsupportedError(
                    "decode-shared-offsets",
                    f"the zero points of {program.rule}{program.bits} cannot go by column",
                    next_step="use the format with symmetric=true",
                )
    return found


def _expression(program: DecodeProgram, step: Step, register: int | None = None) -> str:
    pair = f"{program.operand.name}x2"
    given = [_source(source, register) for source in step.sources]
    spelled = {
        "and": "{0} & {1}",
        "xor": "{0} ^ {1}",
        "subtract": "{0} - {1}",
        "shift_right": f"{{0}} >> {step.sources[-1]}",
        "shift_left": f"{{0}} << {step.sources[-1]}",
        "permute": "permute_bytes({0}, {1}, {2})",
        "add": f"add_{pair}({{0}}, {{1}})",
        "multiply": f"mul_{pair}({{0}}, {{1}})",
        "fma": f"fma_{pair}({{0}}, {{1}}, {{2}})",
        "lookup": "table.load<4>({0})",
    }
    if step.operation == "lop3":
        return f"lop3<{bits(int(step.sources[3]))}>({', '.join(given[:3])})"
    return spelled[step.operation].format(*given)


def _source(source: Source, register: int | None) -> str:
    if isinstance(source, int):
        return bits(source)
    if source.startswith("offset"):
        index, half = source.removeprefix("offset").split("_")
        if register is not None:
            half = str(register // 4 * 2 + register % 2)
        return f"offsets[{index}][{half}]"
    return source
