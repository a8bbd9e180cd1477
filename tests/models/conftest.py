"""What the tests of models/ share: one thread, and what may be missing on a machine."""

from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
import torch

from qcc.models.assets import Asset

DATA = Path(__file__).parents[2] / "../shared/data"


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def shared() -> Callable[[str], Path]:
    """The path of a file of the data folder; a test that asks for a missing one is skipped."""

    def find(name: str) -> Path:
        if not (DATA / name).is_file():
            pytest.skip(f"needs ../shared/data/{name}")
        return DATA / name

    return find


@pytest.fixture(scope="session")
def installed() -> Callable[[Asset], None]:
    """Skips the test when the asset's package is missing; a damaged one is left to fail."""

    def check(asset: Asset) -> None:
        try:
            distribution(asset.package)
        except PackageNotFoundError:
            pytest.skip(f"needs {asset.package}: {asset.install_command}")

    return check
