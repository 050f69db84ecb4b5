"""Two versions of a model, loaded in their workers."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from bridge.formats.detect import Framework
from bridge.verification.checks import Checks
from bridge.verification.judging import Ran
from bridge.verification.mapping import Mapped, parse_map
from bridge.verification.pairing import Correspondence, correspond_inputs, correspond_outputs
from bridge.verification.parties import Party
from bridge.verification.surroundings import Hashes
from bridge.verification.weighing import Weights
from bridge.worker.side import Description, Run, Side, TensorSpec


@dataclass
class Loaded:
    """Both versions, and what their workers say about them.

    `drop_in`: the target is to have the source's very interface, names and layouts included. `weights`
    is what was found about the weights, None as long as nobody asked. `hashes` are those of the files that
    are compared, computed meanwhile.
    """

    source_party: Party
    target_party: Party
    source_side: Side
    target_side: Side
    source: Description
    target: Description
    drop_in: bool
    weights: Weights | None = None
    threads: int = 1
    hashes: Future[Hashes] | None = field(default=None, repr=False)

    @property
    def converted(self) -> bool:
        """Whether the target is what bridge made of a model."""
        return self.target_party.converted is not None

    @property
    def frameworks(self) -> tuple[Framework, Framework]:
        """What computes the source and the target; of a factory, loading it has told."""
        parties, sides = (self.source_party, self.target_party), (self.source, self.target)
        return tuple(  # type: ignore[return-value]
            party.framework or _framework(side.what) for party, side in zip(parties, sides, strict=True)
        )

    def correspond_inputs(self, checks: Checks, inputs: Sequence[TensorSpec]) -> Correspondence:
        """Which inputs belong together; `inputs` are the source's, as the user may have said more of them."""
        return correspond_inputs(
            inputs,
            self.target.inputs,
            given=_given(checks.map_inputs),
            converted=self.converted,
            layouts=not self.drop_in,
            source_sorted=self.source_party.sorts_names,
            target_sorted=self.target_party.sorts_names,
        )

    def correspond_outputs(
        self, checks: Checks, correspondence: Correspondence, ran: Sequence[Ran]
    ) -> Correspondence:
        """A correspondence with the outputs that belong together, as far as the target gives any."""
        first = next(((each.source, each.target) for each in ran if isinstance(each.target, Run)), None)
        if first is None:
            return correspondence
        source, target = first
        return correspond_outputs(
            correspondence,
            self.source.outputs,
            self.target.outputs,
            source.outputs,
            target.outputs,
            given=_given(checks.map_outputs),
            converted=self.converted,
            layouts=not self.drop_in,
            source_sorted=self.source_party.sorts_names,
            target_sorted=self.target_party.sorts_names,
        )


def _framework(what: str) -> Framework:
    """The framework that the description of a loaded object names."""
    return "torch" if "PyTorch" in what else "tf" if "TensorFlow" in what else "onnx"


def _given(text: str) -> Sequence[Mapped]:
    return parse_map(text) if text else ()
