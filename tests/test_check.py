"""The `check` fixture itself: it fails where FileCheck would pass in silence."""

from __future__ import annotations

import pytest


def test_a_match(check) -> None:
    # CHECK: one
    # CHECK-NEXT: two
    check("one\ntwo\n")


def test_a_mismatch_fails(check) -> None:
    # CHECK: three
    with pytest.raises(AssertionError, match="FileCheck failed"):
        check("one\ntwo\n")


def test_a_directive_without_its_colon_fails(check) -> None:
    # CHECK: one
    # CHECK-NEXT two
    with pytest.raises(AssertionError, match="not a directive"):
        check("one\ntwo\n")
