"""Run both versions on data of the user, to be looked at by whoever asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from bridge.errors import EnvironmentFailure
from bridge.verification.checks import Checks
from bridge.verification.choosing import choose_inputs
from bridge.verification.judging import Ran
from bridge.verification.loaded import Loaded
from bridge.verification.measure import Array
from bridge.verification.pairing import Correspondence
from bridge.verification.running import Runner, outcome
from bridge.verification.user_inputs import Arrays, user_draws
from bridge.worker.side import Run


def predict(
    loaded: Loaded, sets: Iterable[Arrays], checks: Checks, name: str
) -> Iterator[tuple[list[Array], list[Array]]]:
    """The outputs of both versions for each set of inputs, the target's in the source's order and layout.

    Of the `checks`, those count that say which tensors belong together. `name` sets the files apart. Raises
    InputError for inputs that do not fit, and EnvironmentFailure where a version does not run them.
    """
    correspondence: Correspondence | None = None
    outputs_paired = False
    for position, arrays in enumerate(sets):
        if correspondence is None:
            correspondence = _correspond(loaded, arrays, checks, name)
        runner = Runner(loaded.source_side, loaded.target_side, correspondence, f"{name}.{position}")
        (draw,) = user_draws([arrays], loaded.source.inputs)
        run = f"{name}.{position}"
        numbers = (
            loaded.source_side.submit_run(runner.source_file(draw), run),
            loaded.target_side.submit_run(runner.target_file(draw), run),
        )
        source = _ran(outcome(loaded.source_side, numbers[0], run), "source")
        target = _ran(outcome(loaded.target_side, numbers[1], run), "target")
        if not outputs_paired:
            correspondence = loaded.correspond_outputs(checks, correspondence, [Ran(draw, source, target)])
            if correspondence.mismatch is not None:
                raise EnvironmentFailure(correspondence.mismatch)
            outputs_paired = True
        yield (
            correspondence.source_outputs(source.outputs),
            correspondence.arranged(target.outputs, source.outputs),
        )


def _correspond(loaded: Loaded, arrays: Arrays, checks: Checks, name: str) -> Correspondence:
    given: Mapping[str, Array] | Sequence[Array] = arrays
    only = Checks(inputs=given, draw=False, map_inputs=checks.map_inputs, map_outputs=checks.map_outputs)
    correspondence, _ = choose_inputs(loaded, only, name)
    if correspondence.mismatch is not None:
        raise EnvironmentFailure(correspondence.mismatch)
    return correspondence


def _ran(run: Run | str, role: str) -> Run:
    if isinstance(run, str):
        raise EnvironmentFailure(f"the {role} does not run the data: {run}")
    return run
