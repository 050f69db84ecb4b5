"""The files that a version of a model, or what else the user names in a text, consists of."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from bridge.worker.code import code_files, is_module_reference


def named_files(text: str, directory: Path = Path()) -> Iterator[Path]:
    """The files that a text stands for: a path, all in a directory, or those of a Python reference.

    What belongs to a model without being named is among them: external data, the parts of a checkpoint. A
    text that names nothing that exists has none.
    """
    if not text:
        return
    path = directory / text
    try:
        is_directory, is_file = path.is_dir(), path.is_file()
    except (OSError, ValueError):
        return  # too long for a path, or no text for one
    if is_directory:
        yield from (each for each in sorted(path.rglob("*")) if each.is_file() and _counts(each))
    elif is_file:
        yield path
        yield from _beside(path)
    else:
        # The prefix of a checkpoint: `model.ckpt` stands for `model.ckpt.index` and more.
        yield from _beside(path)
        if is_module_reference(text):
            yield from code_files(text, [str(directory), *sys.path])


def _counts(file: Path) -> bool:
    return file.suffix != ".pyc"


def _beside(path: Path) -> Iterator[Path]:
    """What belongs to a model without being named: external data, the parts of a checkpoint."""
    stems = {path.name, path.stem} if path.suffix in (".meta", ".index") else {path.name}
    if path.parent.is_dir():
        for each in sorted(path.parent.iterdir()):
            if each != path and each.is_file() and any(each.name.startswith(f"{stem}.") for stem in stems):
                yield each
    if path.suffix == ".onnx" and path.is_file():
        yield from _external_data(path)


def _external_data(path: Path) -> Iterator[Path]:
    """The files beside an ONNX model that its tensors say they are in."""
    import onnx
    from google.protobuf.message import DecodeError
    from onnx.external_data_helper import ExternalDataInfo, uses_external_data

    try:
        model = onnx.load(str(path), load_external_data=False)
    except DecodeError:
        return  # what is wrong with it is for the verification to say
    for tensor in model.graph.initializer:
        if uses_external_data(tensor):
            file = (path.parent / ExternalDataInfo(tensor).location).resolve()
            if file.is_relative_to(path.parent.resolve()) and file.is_file():
                yield file
