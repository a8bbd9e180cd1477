"""How each op of a kernel is written in C."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...dialects.bindings import ir
from ...dialects.errors import UnsupportedError
from ...dialects.pim.dialect import ELEMENT_BYTES, element_of
from ...dialects.pim.kernel import trip_count
from .kernel_text import KernelText, read_in_loop, singular, uses, written_in_place
from .words import Word, grouped, name

Rule = Callable[[KernelText, Any], None]
C_TYPES = {
    "si8": "int8_t",
    "ui8": "uint8_t",
    "si16": "int16_t",
    "ui16": "uint16_t",
    "si32": "int32_t",
    "ui32": "uint32_t",
}
LETTERS = {"low": "l", "high": "h"}


def write_block(text: KernelText, block: Any) -> None:
    """All ops of a block, their notes before them."""
    for op in block.operations:
        attributes = op.operation.attributes
        if "note" in attributes and op.operation.name != "pim.loop":
            text.out.comment(ir.StringAttr(attributes["note"]).value)
        RULES[op.operation.name](text, op)


# ---- arithmetic


def constant(text: KernelText, op: Any) -> None:
    value = ir.IntegerAttr(op.operation.attributes["value"]).value
    text.words[op.operation.results[0]] = Word(value % (1 << 32))


def add(text: KernelText, op: Any) -> None:
    left, right = op.operation.operands
    result = op.operation.results[0]
    if text.may_replace(left) and not text.word(right).is_constant:
        text.add_to(result, left, str(text.word(right)))
        return
    text.define(result, text.word(left).plus(text.word(right)), hint_of(op))


def subtract(text: KernelText, op: Any) -> None:
    left, right = (text.word(each) for each in op.operation.operands)
    text.define(op.operation.results[0], left.minus(right), hint_of(op))


def multiply(text: KernelText, op: Any) -> None:
    left, right = (text.word(each) for each in op.operation.operands)
    result = op.operation.results[0]
    if left.is_constant:
        left, right = right, left
    if right.is_constant:
        text.define(result, left.times(right.constant), hint_of(op))
    else:
        text.define(result, name(f"({grouped(left)} * {grouped(right)})"), hint_of(op))


def shift_left(text: KernelText, op: Any) -> None:
    value, by = (text.word(each) for each in op.operation.operands)
    if by.is_constant:
        text.define(op.operation.results[0], value.times(1 << by.constant), hint_of(op))
    else:
        unsigned = f"{value.constant}u" if value.is_constant else grouped(value)
        define_term(text, op, f"({unsigned} << {grouped(by)})")


def operator(symbol: str) -> Rule:
    def rule(text: KernelText, op: Any) -> None:
        left, right = (text.word(each) for each in op.operation.operands)
        term, base = f"({grouped(left)} {symbol} {grouped(right)})", str(left)
        upper = symbol == ">>" and base.isidentifier()
        define_term(text, op, term, f"{base}_high" if upper else "value")

    return rule


def shift_right_signed(text: KernelText, op: Any) -> None:
    value, by = (text.word(each) for each in op.operation.operands)
    define_term(text, op, f"(uint32_t)((int32_t){grouped(value)} >> {grouped(by)})")


def choice(symbol: str) -> Rule:
    """The one of two words that compares so; both have names, as each stands twice."""

    def rule(text: KernelText, op: Any) -> None:
        left, right = (named(text, each) for each in op.operation.operands)
        define_term(text, op, f"({left} {symbol} {right} ? {left} : {right})")

    return rule


def named(text: KernelText, value: Any) -> str:
    """A word as a constant or a variable of its own."""
    word, owner = text.word(value), value.owner
    if word.is_constant or (word.is_name and str(word).isidentifier()):
        return str(word)
    hint = "value" if isinstance(owner, ir.Block) else hint_of(owner.opview)
    return str(text.declare(f"const uint32_t {text.fresh(hint)}", unwrapped(str(word))))


def leading_zeros(text: KernelText, op: Any) -> None:
    value = grouped(text.word(op.operation.operands[0]))
    define_term(text, op, f"qcc_leading_zeros({value})")


def hint_of(op: Any, otherwise: str = "value") -> str:
    """What the kernel's writer calls the result, in an attribute `name`."""
    attributes = op.operation.attributes
    return ir.StringAttr(attributes["name"]).value if "name" in attributes else otherwise


def define_term(text: KernelText, op: Any, term: str, hint: str = "value") -> None:
    """An operation that is no sum: named where it is read more than once."""
    result, hint = op.operation.results[0], hint_of(op, hint)
    if uses(result) > 1 or read_in_loop(result):
        text.words[result] = text.declare(f"const uint32_t {text.fresh(hint)}", unwrapped(term))
    else:
        text.words[result] = name(term)


def unwrapped(term: str) -> str:
    """
    Without the outermost parentheses of an operand.

    >>> unwrapped("(a >> 2)"), unwrapped("(a) * (b)")
    ('a >> 2', '(a) * (b)')
    """
    depth = 0
    for place, letter in enumerate(term):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return term[1:-1] if letter == ")" and place == len(term) - 1 else term
    return term


# ---- memory


def element(text: KernelText, buffer: Any, index: Word) -> str:
    """An element as a word: extended as its type says."""
    kind = element_of(buffer.type)
    at = f"{text.arrays[buffer]}[{index}]"
    if kind.startswith("u"):
        return at
    return f"(uint32_t){at}" if kind == "si32" else f"qcc_word({at})"


def load(text: KernelText, op: Any) -> None:
    index = text.word(op.index).plus(Word(op.displacement.value))
    read = element(text, op.buffer, index)
    if written_in_place(op):
        text.words[op.element] = name(read)
    else:
        text.variable(op.element, read, hint_of(op, singular(text.arrays[op.buffer])))


def store(text: KernelText, op: Any) -> None:
    index = text.word(op.index).plus(Word(op.displacement.value))
    value, kind = text.word(op.element), element_of(op.buffer.type)
    truncated = str(value)
    if kind != "ui32" and not value.is_constant:
        truncated = f"({C_TYPES[kind]}){grouped(value)}"
    elif value.is_constant:
        truncated = signed_literal(as_element(value.constant, kind))
    text.out.line(f"{text.arrays[op.buffer]}[{index}] = {truncated};")


def as_element(value: int, kind: str) -> int:
    """
    A word truncated to an element.

    >>> as_element(255, "si8"), as_element(4294967295, "ui16")
    (-1, 65535)
    """
    width = 8 * ELEMENT_BYTES[kind]
    value %= 1 << width
    return value - (1 << width) if kind.startswith("s") and value >> (width - 1) else value


def signed_literal(value: int) -> str:
    """C reads a minus and a number, and the least number has no positive one."""
    if value >= 1 << 31:
        return f"{value}u"
    return str(value) if value > -(1 << 31) else "(-2147483647 - 1)"


def lookup_accumulate(text: KernelText, op: Any) -> None:
    code = text.word(op.code)
    if op.reorder is not None:
        code = name(element(text, op.reorder, text.word(op.reorder_at).plus(code)))
    index = text.word(op.at).plus(code.times(op.stride.value))
    index = index.plus(Word(op.displacement.value))
    text.add_to(op.result, op.accumulator, element(text, op.table, index))


def mul8(text: KernelText, op: Any) -> None:
    left, right = (str(text.word(each)) for each in (op.left, op.right))
    bytes_ = LETTERS[op.left_byte.value] + LETTERS[op.right_byte.value]
    define_term(text, op, f"qcc_mul_{bytes_}({left}, {right})")


def dma(inward: bool) -> Rule:
    def rule(text: KernelText, op: Any) -> None:
        array = op.source if inward else op.target
        far = f"&{text.arrays[array]}[{text.word(op.offset)}]"
        near = f"&{text.arrays[op.buffer]}[{text.word(op.at)}]"
        size = op.count.value * ELEMENT_BYTES[element_of(array.type)]
        call = f"mram_read({far}, {near}" if inward else f"mram_write({near}, {far}"
        text.out.line(f"{call}, {size});")

    return rule


# ---- control


def tasklet(text: KernelText, op: Any) -> None:
    text.words[op.index] = name("tasklet")


def order(text: KernelText, _: Any) -> None:
    text.out.line("qcc_in_order();")


def barrier(text: KernelText, _: Any) -> None:
    text.out.line("barrier_wait(&all_tasklets);")


def nothing(_: KernelText, __: Any) -> None:
    """Declared where the kernel begins, or said by its end."""


def loop(text: KernelText, op: Any) -> None:
    """`for`, or the iterations one after another where the loop is unrolled whole."""
    carried = [carry(text, op, i) for i in range(len(op.initial))]
    block = op.body.blocks[0]
    trips, unroll = trip_count(op), op.unroll.value
    copies = trips if unroll == 0 and trips is not None else max(1, unroll)
    first, step = text.word(op.first), op.step.value
    note(text, op)
    if trips is not None and copies == trips:
        for i in range(copies):
            iteration(text, block, first.plus(Word(i * step)), carried)
    else:
        variable = text.fresh(op.variable.value)
        last = text.word(op.last)
        advance = f"++{variable}" if step * copies == 1 else f"{variable} += {step * copies}"
        start = f"uint32_t {variable} = {first}"
        with text.scope(f"for ({start}; {variable} < {grouped(last)}; {advance})"):
            for i in range(copies):
                iteration(text, block, name(variable).plus(Word(i * step)), carried)
    for outcome, variable in zip(op.operation.results, carried, strict=True):
        text.words[outcome] = variable


def note(text: KernelText, op: Any) -> None:
    attributes = op.operation.attributes
    if "note" in attributes:
        text.out.comment(ir.StringAttr(attributes["note"]).value)


def carry(text: KernelText, op: Any, i: int) -> Word:
    """The variable that a loop carries: that of the value it starts from, if only it reads that."""
    initial = list(op.initial)[i]
    word = text.word(initial)
    if text.may_replace(initial):
        return word
    return text.changeable(str(word), carried_name(op, i))


def carried_name(op: Any, i: int) -> str:
    """What the kernel's writer calls what a loop carries, in an attribute `names`."""
    attributes = op.operation.attributes
    return ir.StringAttr(attributes["names"][i]).value if "names" in attributes else "sum"


def iteration(text: KernelText, block: Any, index: Word, carried: list[Word]) -> None:
    """One copy of a loop's body, then what it hands on."""
    text.words[block.arguments[0]] = index
    for argument, variable in zip(list(block.arguments)[1:], carried, strict=True):
        text.words[argument] = variable
    write_block(text, block)
    *_, last = block.operations
    handed = [text.word(each) for each in last.operation.operands]
    changed = [(to, value) for to, value in zip(carried, handed, strict=True) if to != value]
    if len(changed) > 1:  # each reads what was before
        changed = [
            (to, text.declare(f"const uint32_t {text.fresh('following')}", str(value)))
            for to, value in changed
        ]
    for to, value in changed:
        text.out.line(f"{to} = {value};")


class Rules(dict[str, Rule]):
    """Rules by op; one that is missing is an error that names it."""

    def __missing__(self, op: str) -> Rule:
        raise UnsupportedError(
            "upmem-no-rule", f"upmem: no rule for {op}", next_step="report the kernel's IR"
        )


RULES = Rules(
    {
        "arith.constant": constant,
        "arith.addi": add,
        "arith.subi": subtract,
        "arith.muli": multiply,
        "arith.shli": shift_left,
        "arith.shrui": operator(">>"),
        "arith.shrsi": shift_right_signed,
        "arith.andi": operator("&"),
        "arith.ori": operator("|"),
        "arith.xori": operator("^"),
        "arith.minui": choice("<"),
        "arith.maxui": choice(">"),
        "arith.divui": operator("/"),
        "math.ctlz": leading_zeros,
        "pim.wram_alloc": nothing,
        "pim.tasklet": tasklet,
        "pim.load": load,
        "pim.store": store,
        "pim.lookup_accumulate": lookup_accumulate,
        "pim.mul8": mul8,
        "pim.dma_in": dma(inward=True),
        "pim.dma_out": dma(inward=False),
        "pim.barrier": barrier,
        "pim.order": order,
        "pim.loop": loop,
        "pim.yield": nothing,
        "pim.return": nothing,
    }
)
