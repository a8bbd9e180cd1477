"""What a host must launch: arguments by name, grid, scratch memory."""

from __future__ import annotations

from dataclasses import dataclass

from .problem import LinearProblem
from .schedule import Schedule, shared_bytes


@dataclass(frozen=True)
class LinearLaunch:
    """
    One kernel of a linear layer.

    `arguments` in order: "x", the roles of the packed weight (packets.py), "x_scale" (fp32
    [tokens]), "bias", "table" (the decode program's), "y", "workspace", "arrivals", "tokens" (an
    i32). `arrivals` is u32, zero before the first launch, and zero again after each.
    """

    kernel: str
    arguments: tuple[str, ...]
    problem: LinearProblem
    schedule: Schedule

    @property
    def threads(self) -> int:
        return self.schedule.threads

    @property
    def shared_bytes(self) -> int:
        return shared_bytes(self.problem, self.schedule)

    def grid(self, tokens: int) -> tuple[int, int, int]:
        """Tiles of tokens, which run together and share weights; tiles of channels; splits."""
        s = self.schedule
        return -(-tokens // s.tokens), -(-self.problem.n // s.channels), s.splits

    def workspace_words(self, tokens: int) -> int:
        """Words of 4 bytes for partial sums, none without splits."""
        x, y, splits = self.grid(tokens)
        return x * y * splits * self.schedule.channels * self.schedule.tokens * (splits > 1)

    def arrival_words(self, tokens: int) -> int:
        x, y, splits = self.grid(tokens)
        return x * y * (splits > 1)
