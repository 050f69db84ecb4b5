"""Does the verdict find planted faults, and does it name the node?

    python -m scripts.proof.planted_faults DIRECTORY [--models NAME ...] [--kinds KIND ...] [--sites N]

Builds the plants (`scripts.proof.plants.build`), measures what each changes (`.effects`), and verifies each
as `bridge verify --grad --train` does. Results are lines of JSON in DIRECTORY/results.jsonl; what is there
already is not done again. Ends with the tables; exit 1 where one of the bars is missed.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bridge.errors import BridgeError
from bridge.verification.checks import Checks
from bridge.verification.parties import resolve
from bridge.verification.report import Report
from bridge.verification.session import Session
from scripts.proof.plants import effects
from scripts.proof.plants.build import build
from scripts.proof.plants.catalog import HONEST, MODELS, Model, Plant, plants
from scripts.proof.plants.faults import KINDS

_TRAINING_STEPS = 20
FOUND_BAR = 0.99
NAMED_BAR = 0.95
CHANGE = 100.0
"""By how many times the source's own error a plant must change an output to count."""
DOUBLE_CHANGE = 1e-6
"""The relative change of a gradient or of training in float64 from which a plant counts."""


def verify_model(
    directory: Path, model: Model, kinds: Sequence[str], done: set[str]
) -> Iterator[dict[str, Any]]:
    """Verify the honest target, then every plant that is not done, against one loaded source."""
    wanted = [
        each
        for each in plants(directory, model.name)
        if each.fault.kind in kinds and each.fault.label not in done
    ]
    if not wanted and HONEST in done:
        return
    checks = Checks(gradients=True, training=_TRAINING_STEPS if model.trains else 0)
    source = resolve(model.source_path(directory), as_target=False)
    with Session(source, resolve(model.target_path(directory, HONEST), as_target=True)) as session:
        if HONEST not in done:
            yield _honest(model, session.verify(checks))
        for plant in wanted:
            started = time.monotonic()
            session.replace_target(resolve(model.target_path(directory, plant.fault.label), as_target=True))
            record = {"model": model.name, "label": plant.fault.label, **plant.to_json()}
            try:
                report = session.verify(checks)
            except BridgeError as error:
                yield {**record, "verdict": "could not be checked", "reasons": [error.message]}
                continue
            yield {
                **record,
                "verdict": report.verdict,
                "reasons": list(report.reasons[:4]),
                "found_by": found_by(report),
                "place": None if report.localisation is None else report.localisation.to_json(),
                "named": is_named(model, plant, report),
                "notes": list(report.notes),
                "seconds": round(time.monotonic() - started, 1),
            }


def _honest(model: Model, report: Report) -> dict[str, Any]:
    errors = {
        str(position): max(
            (each.source_l2 or 0.0 for each in output.errors if each.rule == "typical"), default=0.0
        )
        for position, output in enumerate(report.outputs)
    }
    return {
        "model": model.name,
        "label": HONEST,
        "verdict": report.verdict,
        "reasons": list(report.reasons),
        "source_errors": errors,
        "notes": list(report.notes),
    }


def found_by(report: Report) -> list[str]:
    """The checks that say "different"."""
    found = []
    if any(each.verdict == "different" for each in report.outputs):
        found.append("outputs")
    if report.weights is not None and not report.weights.passed:
        found.append("weights")
    if report.matched_weights is not None and not report.matched_weights.passed:
        found.append("matched weights")
    for name, result in (("gradients", report.gradients), ("training", report.training)):
        if result is not None and result.verdict == "different":
            found.append(name)
    if report.verdict == "different" and not found:
        found.append("run")
    return found


def is_named(model: Model, plant: Plant, report: Report) -> bool:
    """Whether the report names the planted node, and nothing else.

    In a converted model that is the hub value of the node, or where only weights or training differ,
    the tensors of its module alone. In a hand-written one the block that is named lies in the planted layer.
    """
    place = report.localisation
    if place is None:
        named = _named_tensors(report)
        return bool(named) and all(_belongs(model, plant, each) for each in named)
    if plant.fault.kind == "swapped_outputs":
        return place.target.operator == "output"
    if model.made == "converted":
        return place.target.name in plant.names or (
            place.how == "weights" and _belongs(model, plant, place.target.name)
        )
    block = place.target_block or (place.target,)
    return all(_lies_in(f"{each.scope or ''}/{each.name}", plant.fault.node) for each in block)


def _named_tensors(report: Report) -> list[str]:
    """The tensors that the weights, or else the trained state, differ in."""
    if report.weights is not None and not report.weights.passed:
        return [each.target for each in report.weights.differences]
    if report.matched_weights is not None and not report.matched_weights.passed:
        return [each.source for each in report.matched_weights.suspects if each.decides]
    if report.training is not None and report.training.verdict == "different":
        return [each.name for each in report.training.tensors if each.verdict == "different"]
    return []


def _belongs(model: Model, plant: Plant, tensor: str) -> bool:
    """Whether a tensor is one of the planted node's module: its path begins as the hub value's name does."""
    if model.made == "hand":
        return _lies_in(tensor, plant.fault.node)
    path = re.split(r"[./]", tensor)[:-1]
    return any(re.split(r"[./]", name)[: len(path)] == path for name in plant.names) and bool(path)


def _lies_in(path: str, node: str) -> bool:
    return node in re.split(r"[./:]", path)


def counts(effect: effects.Effect, source_errors: Mapping[str, float]) -> bool:
    """Whether a plant counts: it changes bits, the function by far more than rounding, or the training."""
    changed = any(
        change > CHANGE * source_errors.get(str(position), 0.0)
        for position, change in enumerate(effect.function)
    )
    return effect.weights or changed or effect.gradients > DOUBLE_CHANGE or effect.training > DOUBLE_CHANGE


def tables(directory: Path, records: Sequence[Mapping[str, Any]]) -> tuple[str, bool]:
    """The results as text, and whether both bars are met."""
    honest = {each["model"]: each for each in records if each["label"] == HONEST}
    counted: list[dict[str, Any]] = []
    equivalent: list[dict[str, Any]] = []
    for each in records:
        if each["label"] == HONEST:
            continue
        effect = effects.load(directory, each["model"])[each["label"]]
        group = counted if counts(effect, honest[each["model"]]["source_errors"]) else equivalent
        group.append({**each, "effect": effect})
    lines = ["honest targets"]
    lines += [f"  {name:24} {each['verdict']}" for name, each in sorted(honest.items())]
    for title, key in (("by kind", "kind"), ("by model", "model")):
        lines += ["", f"{title:26} counted  found  named"]
        for group_name in sorted({each[key] for each in counted}):
            group = [each for each in counted if each[key] == group_name]
            lines.append(_row(group_name, group))
        lines.append(_row("all", counted))
    lines += ["", "missed or not named"]
    for each in counted:
        if not _found(each) or not each.get("named"):
            place = (each.get("place") or {}).get("target", {})
            state = "not named" if _found(each) else f"MISSED ({each['verdict']})"
            lines.append(f"  {each['model']} {each['label']}: {state}; {each.get('found_by')}; {place}")
    lines += ["", "equivalent: the largest change of an output, of gradients, of training; the verdict"]
    for each in equivalent:
        effect = each["effect"]
        largest = max(effect.function, default=0.0)
        lines.append(
            f"  {each['model']} {each['label']}: {largest:.1e} {effect.gradients:.1e} {effect.training:.1e};"
            f" {each['verdict']}"
        )
    found = sum(map(_found, counted))
    named = sum(bool(each.get("named")) for each in counted if _found(each))
    met = found > FOUND_BAR * len(counted) and named > NAMED_BAR * found
    return "\n".join(lines), met


def _found(record: Mapping[str, Any]) -> bool:
    return bool(record["verdict"] == "different")


def _row(name: str, group: Sequence[Mapping[str, Any]]) -> str:
    found = [each for each in group if _found(each)]
    named = sum(bool(each.get("named")) for each in found)
    return f"  {name:24} {len(group):7} {len(found):6} {named:6}"


def read_results(directory: Path) -> list[dict[str, Any]]:
    """What was done so far, a record for each target."""
    path = directory / "results.jsonl"
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", type=Path)
    parser.add_argument("--models", nargs="*", default=list(MODELS), choices=list(MODELS), metavar="NAME")
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS), metavar="KIND")
    parser.add_argument("--sites", type=int, default=1, help="nodes of each model to plant each kind in")
    parser.add_argument("--tables", action="store_true", help="only print the tables of what was done")
    arguments = parser.parse_args()
    directory, results = arguments.directory, arguments.directory / "results.jsonl"
    if not arguments.tables:
        build(directory, arguments.models, arguments.sites)
        command = [sys.executable, "-m", "scripts.proof.plants.effects", str(directory)]
        subprocess.run([*command, "--models", *arguments.models], check=True)
        for name in arguments.models:
            done = {each["label"] for each in read_results(directory) if each["model"] == name}
            for record in verify_model(directory, MODELS[name], arguments.kinds, done):
                with results.open("a") as file:
                    file.write(json.dumps(record) + "\n")
                print(
                    f"{name} {record['label']}: {record['verdict']} {record.get('found_by', '')}"
                    f" named={record.get('named')} {record.get('seconds', '')}",
                    flush=True,
                )
    text, met = tables(directory, read_results(directory))
    print(text)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
