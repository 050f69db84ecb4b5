"""Two versions of a model, each loaded in a process of its own, verified as often as wanted."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

from bridge.errors import BridgeError
from bridge.verification.checks import Checks
from bridge.verification.choosing import Choice, choose_inputs
from bridge.verification.loaded import Loaded
from bridge.verification.measure import Array
from bridge.verification.pairing import Correspondence
from bridge.verification.parties import Party, Version, resolve
from bridge.verification.predicting import predict
from bridge.verification.procedure import Procedure, unchecked
from bridge.verification.report import Report
from bridge.verification.speed.blocks import Role
from bridge.verification.speed.measurement import Started
from bridge.verification.speed.measuring import measure_speed
from bridge.verification.speed.result import SpeedResult
from bridge.verification.speed.settings import SpeedSettings
from bridge.verification.surroundings import start_hashing
from bridge.verification.user_inputs import Arrays
from bridge.worker.failures import WorkerFailure
from bridge.worker.pool import prepared_for
from bridge.worker.side import Description, Side, TensorSpec


@dataclass
class _Worker:
    """A started worker and what it answered to the request to load its model."""

    side: Side
    loading: int
    description: Description | None = None

    def described(self) -> Description:
        """Wait for the model to be loaded."""
        if self.description is None:
            self.description = self.side.description(self.loading)
        return self.description


class Session:
    """Two loaded workers; a context manager.

    ```python
    with Session("model.pt2", "out/") as session:
        reports = [session.verify(Checks(seed=seed)) for seed in range(20)]
    ```

    Both versions are what `bridge.verification.verify` takes. `timeout` is in seconds for each
    verification, `threads` are those of each side. `target_name` is what the report calls the target,
    where its path is a temporary one. `drop_in`: the target is to have the source's very interface, names
    and layouts included. A worker that dies, hangs or answers nonsense is replaced by a fresh one for the
    next verification.
    """

    def __init__(
        self,
        source: Version,
        target: Version,
        *,
        threads: int | None = None,
        timeout: float | None = 600,
        target_name: str | None = None,
        drop_in: bool = False,
        on_progress: Callable[[str], None] | None = None,
    ) -> None:
        self._source = resolve(source, as_target=False)
        self._target = resolve(target, as_target=True)
        if target_name is not None:
            self._target = replace(self._target, path=target_name)
        self._threads = threads or int(os.environ.get("OMP_NUM_THREADS", "0")) or os.cpu_count() or 1
        self._reducible = threads is None and "OMP_NUM_THREADS" not in os.environ
        self._timeout = timeout
        self._drop_in = drop_in
        self._say = on_progress or (lambda text: None)
        self._workers: dict[str, _Worker] = {}
        self._loaded: Loaded | None = None
        self._count = 0

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End both workers."""
        for role in list(self._workers):
            self._end(role)

    def replace_target(self, target: Version) -> None:
        """Hold another target against the same loaded source."""
        self._target = resolve(target, as_target=True)
        self._end("target")

    def verify(self, checks: Checks | None = None) -> Report:
        """One verification: docs/verdict.md defines its verdict.

        Raises InputError where a version or the inputs cannot be used. A worker that dies, takes too long
        or answers nonsense gives the verdict "could not be checked".
        """
        started = time.monotonic()
        checks = checks or Checks()
        self._count += 1
        try:
            return Procedure(
                self._load(), checks, f"v{self._count}", started, self._say, self._measure_speed
            ).run()
        except WorkerFailure as error:
            return unchecked(
                self._described("source"), self._described("target"), checks.seed, error, started
            )
        finally:
            self._forget_ended()

    def speed(self, settings: SpeedSettings | None = None, checks: Checks | None = None) -> SpeedResult:
        """Measure the speed and memory of both versions, without comparing what they compute.

        Of the `checks`, those count that say which inputs there are. Raises InputError as `verify` does, and
        WorkerFailure where a version cannot be loaded.
        """
        checks = checks or Checks()
        self._count += 1
        try:
            loaded = self._load()
            if loaded.hashes is None:
                loaded.hashes = start_hashing(loaded.source_party, loaded.target_party, checks.inputs)
            correspondence, choice = choose_inputs(loaded, checks, f"v{self._count}")
            return self._measure_speed(settings or SpeedSettings(), checks, correspondence, choice)
        finally:
            self._forget_ended()

    def predict(
        self, sets: Callable[[Sequence[TensorSpec]], Iterable[Arrays]], checks: Checks | None = None
    ) -> list[tuple[list[Array], list[Array]]]:
        """The outputs of both versions for sets of inputs, the target's in the source's order and layout.

        `sets` makes them for the source's inputs. Raises InputError where they do not fit, and
        EnvironmentFailure where a version cannot be loaded or does not run them.
        """
        self._count += 1
        try:
            loaded = self._load()
            given = sets(loaded.source.inputs)
            return list(predict(loaded, given, checks or Checks(), f"v{self._count}"))
        finally:
            self._forget_ended()

    @property
    def output_names(self) -> tuple[str, ...] | None:
        """The source's names of its outputs; None where it has none, or is not loaded."""
        return None if self._loaded is None else self._loaded.source.outputs

    def _measure_speed(
        self, settings: SpeedSettings, checks: Checks, correspondence: Correspondence, choice: Choice
    ) -> SpeedResult:
        settings.check()
        return measure_speed(
            self._load(),
            settings,
            correspondence,
            choice,
            self._start_alone,
            reducible=self._reducible,
            seed=checks.seed,
            timeout=self._timeout,
            say=self._say,
        )

    def _start_alone(self, role: Role, threads: int, cache: Path) -> Started:
        """A fresh process for one version, while nothing else computes; it keeps compiled code in `cache`."""
        party = self._source if role == "source" else self._target
        side = Side(
            label=f"{role} worker",
            threads=threads,
            timeout=self._timeout,
            alone=True,
            python=party.python,
            device=party.device,
            environment={**party.variables, "TORCHINDUCTOR_CACHE_DIR": str(cache)},
        )
        try:
            loading = side.submit_load(party.loader, dict(party.request))
            return Started(side, side.description(loading))
        except BridgeError:
            side.close()
            raise

    def _load(self) -> Loaded:
        """Both models, loaded side by side where they are not yet."""
        if self._loaded is not None:
            for worker in self._workers.values():
                worker.side.restart_clock(self._timeout)
            return self._loaded
        for role, party in (("source", self._source), ("target", self._target)):
            if role not in self._workers:
                side = Side(
                    label=f"{role} worker",
                    threads=self._threads,
                    timeout=self._timeout,
                    prepared=prepared_for(party.loader, party.request) if party.ordinary else None,
                    python=party.python,
                    device=party.device,
                    environment=party.variables,
                )
                self._workers[role] = _Worker(side, side.submit_load(party.loader, dict(party.request)))
            else:
                self._workers[role].side.restart_clock(self._timeout)
        if any(each.description is None for each in self._workers.values()):
            self._say("loading both versions")
        source, target = (self._workers[role] for role in ("source", "target"))
        self._loaded = Loaded(
            self._source,
            self._target,
            source.side,
            target.side,
            source.described(),
            target.described(),
            drop_in=self._drop_in,
            threads=self._threads,
        )
        return self._loaded

    def _described(self, role: str) -> tuple[Party, Description | None]:
        party = self._source if role == "source" else self._target
        worker = self._workers.get(role)
        return party, None if worker is None else worker.description

    def _forget_ended(self) -> None:
        for role, worker in list(self._workers.items()):
            if not worker.side.alive or worker.description is None:
                self._end(role)

    def _end(self, role: str) -> None:
        self._loaded = None
        worker = self._workers.pop(role, None)
        if worker is not None:
            worker.side.close()
