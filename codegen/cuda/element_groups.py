"""Fused groups in which a thread computes neighbouring elements of the result."""

from ...dialects.tile.index import Index, Variable, product
from .group_emitter import GroupEmitter, times


class ElementGroup(GroupEmitter):
    def _share(self) -> str:
        s = self.schedule
        sizes = ", ".join(str(each) for each in self.extents.of(self.outputs[0]))
        return f"{s.per_block} elements of [{sizes}], {s.vector} a thread"

    def _body(self) -> None:
        s, text = self.schedule, self.text
        count = product(self.extents.of(self.outputs[0]))
        index = Variable("index", count, s.vector)
        text.depths[index] = 0
        text.scopes.line(
            f"const int index = {times(s.vector, f'int({s.threads} * blockIdx.x + threadIdx.x)')};"
        )
        text.scopes.line(f"if (index >= {text.index(count).text}) return;")
        with self._lane_loop():
            at = Index.of(index) + (Index.of(text.lane) if s.vector > 1 else 0)
            for output, view in zip(self.outputs, self.views, strict=True):
                self._store(output, view, at, ())
