"""CIFAR-10 files: made ones, and the real ones where ../shared is there."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from qcc.models import cifar, evaluate, resnet
from qcc.models.assets import AssetError
from qcc.models.seeding import seeded
from qcc.models.weights import write_safetensors

Shared = Callable[[str], Path]


def test_cifar_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, path = seeded(resnet.resnet20), tmp_path / "resnet20.safetensors"
    write_safetensors(model, path)
    with pytest.raises(AssetError, match="1092520 were expected"):
        cifar.load_resnet20(path)
    monkeypatch.setitem(cifar.FILE_SIZES, 20, path.stat().st_size)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(cifar.load_resnet20(path)(images), model(images))


def test_cifar_images(tmp_path: Path) -> None:
    pixels = np.zeros((2, 32, 32, 3), dtype=np.uint8)
    pixels[1, 4, 5] = (255, 0, 51)
    np.savez(tmp_path / "a.npz", images=pixels, labels=np.array([3, 7], dtype=np.uint8))
    images, labels = cifar.read_images(tmp_path / "a.npz")
    assert images.shape == (2, 3, 32, 32)
    wanted = [(1 - 0.485) / 0.229, -0.456 / 0.224, (0.2 - 0.406) / 0.225]
    torch.testing.assert_close(images[1, :, 4, 5], torch.tensor(wanted))
    assert labels.tolist() == [3, 7]


def test_cifar_file_that_is_not_one(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.array([{}], dtype=object), labels=np.zeros(1))
    with pytest.raises(AssetError, match="is not an npz file"):
        cifar.read_images(tmp_path / "a.npz")
    (tmp_path / "b.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(AssetError, match="is not an npz file"):
        cifar.read_images(tmp_path / "b.npz")
    np.save(tmp_path / "c.npy", np.zeros(3))
    with pytest.raises(AssetError, match="is not an npz file"):
        cifar.read_images(tmp_path / "c.npy")


@pytest.mark.slow
def test_resnet20_classifies_as_published(shared: Shared) -> None:
    images, labels = cifar.read_images(shared("cifar10/test_2000.npz"))
    model = cifar.load_resnet20(shared("cifar10/resnet20.safetensors"))
    assert evaluate.top1(model, images, labels) == pytest.approx(0.8135, abs=1e-9)
