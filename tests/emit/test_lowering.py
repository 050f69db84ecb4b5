"""The table of lowerings: versions, duplicates, plug-ins."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.emit import lowering
from bridge.emit.lowering import LoweringTable
from bridge.plugins import PLUGIN_GROUP


def table() -> LoweringTable:
    return LoweringTable("torch", package="bridge.formats")


def test_the_newest_body_that_is_not_too_new_is_found() -> None:
    found = table()
    found.lowering("Foo", since=1)(len)
    found.lowering("Foo", since=11)(abs)
    assert found.find("Foo", version=10).function is len  # type: ignore[union-attr]
    assert found.find("Foo", version=23).function is abs  # type: ignore[union-attr]
    assert found.find("Bar", version=23) is None


def test_a_second_body_for_the_same_version_needs_override() -> None:
    found = table()
    found.lowering("Foo")(len)
    with pytest.raises(ValueError, match="override=True"):
        found.lowering("Foo")(abs)
    found.lowering("Foo", override=True)(abs)
    assert found.find("Foo", version=1).function is abs  # type: ignore[union-attr]


def test_plugins_of_the_target_register_and_broken_ones_take_nothing_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = table()
    loaded: list[str] = []

    class Entry:
        def __init__(self, name: str, error: Exception | None = None) -> None:
            self.name = name
            self._error = error

        def load(self) -> None:
            if self._error is not None:
                raise self._error
            loaded.append(self.name)
            found.lowering("Mine", domain="my")(len)

    def entries(*, group: str) -> list[Any]:
        assert group == PLUGIN_GROUP
        return [Entry("torch.broken", ImportError("no such thing")), Entry("torch.mine"), Entry("tf.mine")]

    monkeypatch.setattr(lowering, "entry_points", entries)
    assert found.find("Mine", "my", version=23) is not None
    assert loaded == ["torch.mine"]
    assert found.broken_plugins == {"torch.broken": "ImportError: no such thing"}
