"""Build the models, and each of them once for every fault to plant.

    python -m scripts.proof.plants.build DIRECTORY [--models NAME ...] [--sites N]

Each framework works in a process of its own. What is there already is kept.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bridge.errors import BridgeError
from bridge.formats.detect import locate
from bridge.formats.request import ReadRequest
from bridge.tasks import HUB_FILE
from bridge.worker.tasks import run_task
from scripts.proof.plants.architectures import ARCHITECTURES
from scripts.proof.plants.catalog import HONEST, MODELS, Framework, Model, Plant
from scripts.proof.plants.faults import Fault, Faults, chosen


def build(directory: Path, models: Sequence[str], sites: int) -> None:
    """Write sources, honest targets, planted targets and `plants.json` of every model."""
    for framework in ("torch", "tf"):
        _stage("sources", framework, directory, models, sites)
    for model in map(MODELS.__getitem__, models):
        hub = directory / model.name / HUB_FILE
        if model.made == "converted" and not hub.is_file():
            source = locate(model.source_path(directory))
            request = ReadRequest(str(source.path), source.format).to_json()
            run_task("bridge.tasks:read", {"read": request, "out": str(hub.parent)}, label="reader")
    for framework in ("torch", "tf"):
        _stage("targets", framework, directory, models, sites)


def _stage(stage: str, framework: str, directory: Path, models: Sequence[str], sites: int) -> None:
    command = [sys.executable, "-m", __spec__.name, str(directory), "--sites", str(sites)]
    command += ["--stage", stage, "--framework", framework, "--models", *models]
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore::UserWarning"}
    subprocess.run(command, check=True, env={**os.environ, **quiet})


def _sources(framework: Framework, directory: Path, models: Sequence[Model]) -> None:
    for model in models:
        path = model.source_path(directory)
        if model.source != framework or path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if model.made == "hand":
            _save_hand(model, framework, Faults(), path)
        elif framework == "torch":
            from scripts.proof.plants import torch_sources

            torch_sources.save(model.name, model.inputs, path)
        else:
            from scripts.proof.plants import keras_sources

            keras_sources.save(model.name, path)


def _save_hand(model: Model, framework: Framework, faults: Faults, path: Path) -> None:
    if framework == "torch":
        from scripts.proof.plants import torch_layers

        torch_layers.save(ARCHITECTURES[model.name], faults, path)
    else:
        from scripts.proof.plants import tf_layers

        tf_layers.save(ARCHITECTURES[model.name], faults, path)


def _targets(framework: Framework, directory: Path, models: Sequence[Model], sites: int) -> None:
    for model in models:
        record = directory / model.name / "plants.json"
        if model.target == framework and not record.is_file():
            made = _hand(model, directory) if model.made == "hand" else _converted(model, directory)
            available, save, names = made
            built = [
                Plant(model.name, fault, names(fault))
                for fault in [None, *chosen(available, sites)]
                if _saved(model, directory, fault, save) and fault is not None
            ]
            record.write_text(json.dumps([each.to_json() for each in built], indent=1) + "\n")
            print(f"{model.name}: {len(built)} plants", flush=True)


_Made = tuple[Sequence[Fault], Callable[[Fault | None, Path], None], Callable[[Fault], tuple[str, ...]]]
"""The faults that are available, how to write the target with one of them, and how a report may name it."""


def _hand(model: Model, directory: Path) -> _Made:
    listing = Faults()
    scratch = directory / model.name / "listing"
    scratch.mkdir(exist_ok=True)
    _save_hand(model, model.target, listing, scratch / "model.pt2" if model.target == "torch" else scratch)
    shutil.rmtree(scratch)

    def save(fault: Fault | None, path: Path) -> None:
        _save_hand(model, model.target, Faults(fault), path)

    return list(listing.asked), save, lambda fault: (fault.node,)


def _converted(model: Model, directory: Path) -> _Made:
    from scripts.proof.plants.conversion import Conversion

    conversion = Conversion(directory / model.name / HUB_FILE, model.target)
    return conversion.faults(), conversion.build, conversion.names


def _saved(
    model: Model, directory: Path, fault: Fault | None, save: Callable[[Fault | None, Path], None]
) -> bool:
    """Write one target. A fault that a converter would have refused to write is none."""
    label = HONEST if fault is None else fault.label
    path = model.target_path(directory, label)
    folder = path.parent if path.name == "model.pt2" else path
    folder.mkdir(parents=True, exist_ok=True)
    try:
        save(fault, path)
    except BridgeError as error:
        shutil.rmtree(folder)
        if fault is None:
            raise
        print(f"{model.name}: {label} cannot be built: {error.message[:200]}", flush=True)
        return False
    return True


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", type=Path)
    parser.add_argument("--models", nargs="*", default=list(MODELS), choices=list(MODELS), metavar="NAME")
    parser.add_argument("--sites", type=int, default=1, help="nodes of each model to plant each kind in")
    parser.add_argument("--stage", choices=("sources", "targets"), help=argparse.SUPPRESS)
    parser.add_argument("--framework", choices=("torch", "tf"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    models = [MODELS[name] for name in arguments.models]
    if arguments.stage == "sources":
        _sources(arguments.framework, arguments.directory, models)
    elif arguments.stage == "targets":
        _targets(arguments.framework, arguments.directory, models, arguments.sites)
    else:
        build(arguments.directory, arguments.models, arguments.sites)
    return 0


if __name__ == "__main__":
    sys.exit(main())
