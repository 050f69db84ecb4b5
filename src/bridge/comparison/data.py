"""Data to compare both versions on: arrays by input, and labels if there are any."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bridge.errors import InputError
from bridge.verification.user_inputs import Arrays
from bridge.worker.side import TensorSpec
from bridge.worker.standalone import read_tensors

Array = np.ndarray[Any, np.dtype[Any]]

LABELS = ("labels", "label", "y", "y_true", "targets", "target")
"""What the array of labels may be called where the user does not say."""
_CHUNK = 128


@dataclass(frozen=True)
class Data:
    """Samples along axis 0 of every array. `labels` is None where the file has none."""

    arrays: Mapping[str, Array]
    labels: Array | None

    @property
    def samples(self) -> int:
        return int(next(iter(self.arrays.values())).shape[0])

    def chunks(self, inputs: Sequence[TensorSpec]) -> Iterator[Arrays]:
        """The arrays by the names of a model's inputs, some samples at a time, as many as a fixed batch has.

        Names that are not the model's go by position. What does not fill a fixed batch is left out. Raises
        InputError where there are other arrays than inputs.
        """
        names = [each.name for each in inputs]
        if set(names) == set(self.arrays):
            given = {name: self.arrays[name] for name in names}
        elif len(names) == len(self.arrays):
            given = dict(zip(names, self.arrays.values(), strict=True))
        else:
            raise InputError(
                f"the data has the arrays {', '.join(self.arrays)}, the model the inputs {', '.join(names)}",
                hint="name the arrays as the model's inputs, and the labels 'labels' or by --labels NAME",
            )
        size = next((each.shape[0] for each in inputs if each.shape), None)
        step = size if isinstance(size, int) else _CHUNK
        last = self.samples - self.samples % step if isinstance(size, int) else self.samples
        if last == 0:
            raise InputError(
                f"the model takes {step} samples at a time, and the data has {self.samples}",
                hint="give more samples",
            )
        for start in range(0, last, step):
            yield {name: array[start : start + step] for name, array in given.items()}


def read_data(path: str | Path, labels: str | None = None) -> Data:
    """Read an `.npz` or `.safetensors` file; `labels` is the name of the array that is no input.

    Raises InputError where there is no such array, and where the arrays have different numbers of samples.
    """
    arrays = _arrays(Path(path))
    if labels is not None and labels not in arrays:
        raise InputError(
            f"the data has no array {labels!r}", hint=f"it has {', '.join(arrays)}", where=str(path)
        )
    name = labels or next((each for each in LABELS if each in arrays and len(arrays) > 1), None)
    found = None if name is None else arrays.pop(name)
    counts = {
        array.shape[0] if array.ndim else None
        for array in (*arrays.values(), *([] if found is None else [found]))
    }
    if not arrays or len(counts) != 1 or counts & {0, None}:
        raise InputError(
            "the arrays have no samples, or not equally many, along their first axis",
            hint="give an .npz file with one array for each input, and one of labels",
            where=str(path),
        )
    return Data(arrays, found)


def _arrays(path: Path) -> dict[str, Array]:
    try:
        if path.suffix == ".safetensors":
            return dict(read_tensors(str(path)))
        content = np.load(path, allow_pickle=False)
        if not isinstance(content, np.lib.npyio.NpzFile):
            raise InputError("this is a single array", hint="write it with numpy.savez", where=str(path))
        with content:
            return {name: content[name] for name in content.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(
            f"the data cannot be read: {error}", hint="give an .npz or .safetensors file", where=str(path)
        ) from error
