from pathlib import Path
from typing import Any

import numpy as np
import pytest

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden"


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Any:
    """Read a file of reference vectors; the tests that need none cover the same code."""

    def load(name: str) -> dict[str, np.ndarray]:
        path = GOLDEN / f"{name}.npz"
        if not path.exists():
            pytest.skip(f"needs ../shared/golden/{name}.npz")
        with np.load(path) as archive:
            return dict(archive)

    return load


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)
