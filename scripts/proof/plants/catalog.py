"""The models that faults are planted in, and where their files lie. Imports no framework."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from scripts.proof.plants.architectures import ARCHITECTURES, Input
from scripts.proof.plants.faults import Fault

Framework = Literal["torch", "tf"]
Made = Literal["hand", "converted"]

HONEST = "honest"
"""The label of the target without a fault."""


@dataclass(frozen=True)
class Model:
    """One model in both frameworks; faults are planted in the target.

    `made` says whether the target is written by hand or converted by bridge. `suffix` is that of the source.
    `trains` is false where the outputs hold NaN, so that there is no loss.
    """

    name: str
    made: Made
    source: Framework
    inputs: tuple[Input, ...]
    suffix: str
    trains: bool = True

    @property
    def target(self) -> Framework:
        return "tf" if self.source == "torch" else "torch"

    def source_path(self, directory: Path) -> Path:
        return directory / self.name / f"source{self.suffix}"

    def target_path(self, directory: Path, label: str) -> Path:
        """The target with the fault of a label, or HONEST."""
        folder = directory / self.name / "targets" / label
        return folder / "model.pt2" if self.made == "hand" and self.target == "torch" else folder


@dataclass(frozen=True)
class Plant:
    """A fault in a model. `names` are the names under which a report may name its place, most exact first."""

    model: str
    fault: Fault
    names: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.fault.kind, "node": self.fault.node, "names": list(self.names)}

    @classmethod
    def from_json(cls, model: str, record: Mapping[str, Any]) -> Plant:
        return cls(model, Fault(record["kind"], record["node"]), tuple(record["names"]))


def plants(directory: Path, model: str) -> list[Plant]:
    """The plants that were built for a model."""
    records = json.loads((directory / model / "plants.json").read_text())
    return [Plant.from_json(model, each) for each in records]


def _hand(name: str, source: Framework, *, trains: bool = True) -> Model:
    suffix = ".pt2" if source == "torch" else "_saved"
    return Model(name, "hand", source, ARCHITECTURES[name].inputs, suffix, trains)


def _image(*shape: int) -> tuple[Input, ...]:
    return (Input("image", shape),)


_HAND = (
    _hand("arithmetic", "torch", trains=False),
    _hand("autoencoder", "torch"),
    _hand("convolutional", "torch"),
    _hand("gated", "tf"),
    _hand("long_memory", "torch"),
    _hand("mobile", "tf"),
    _hand("pooling", "torch"),
    _hand("resizing", "tf"),
    _hand("transformer", "tf"),
)

_CONVERTED = (
    Model(
        "arithmetic_converted",
        "converted",
        "tf",
        (Input("x", (6,)), Input("numbers", (5,), "int64")),
        "_saved",
        trains=False,
    ),
    Model("autoencoder_converted", "converted", "tf", _image(12, 8, 3), ".keras"),
    Model("mobile_converted", "converted", "torch", _image(3, 13, 11), ".pt2"),
    Model("mobile_keras", "converted", "tf", _image(14, 11, 3), ".keras"),
    Model("perceptron", "converted", "torch", (Input("x", (10,)),), ".pt2"),
    Model("pooling_converted", "converted", "torch", _image(3, 12, 11), ".pt2"),
    Model("resnet", "converted", "torch", _image(3, 13, 11), ".pt2"),
    Model("text", "converted", "tf", (Input("ids", (8,), "int64", 50),), ".keras"),
    Model("transformer_converted", "converted", "torch", (Input("ids", (9,), "int64", 60),), ".pt2"),
    Model("unet", "converted", "torch", _image(3, 12, 10), ".pt2"),
)

MODELS: Mapping[str, Model] = {each.name: each for each in (*_HAND, *_CONVERTED)}
