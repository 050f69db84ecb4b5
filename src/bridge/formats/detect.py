"""What a file or directory is, told from its content without importing a framework or unpickling.

The names of formats used everywhere in bridge are the keys of `FORMATS`.
"""

from __future__ import annotations

import difflib
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bridge.errors import InputError
from bridge.formats import pickles, protobuf

Framework = Literal["torch", "tf", "onnx"]


@dataclass(frozen=True)
class Format:
    """A format that bridge knows: whose it is, what to call it in a message, and the suffixes it goes by."""

    framework: Framework
    title: str
    suffixes: tuple[str, ...] = ()


_TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle")

FORMATS: dict[str, Format] = {
    "pt2": Format("torch", "PyTorch exported program", (".pt2", ".pt", ".pth")),
    "torchscript": Format("torch", "TorchScript archive", _TORCH_SUFFIXES),
    "pickle_module": Format("torch", "pickled PyTorch object", _TORCH_SUFFIXES),
    "state_dict": Format("torch", "PyTorch state_dict", _TORCH_SUFFIXES),
    "safetensors": Format("torch", "safetensors file", (".safetensors",)),
    "keras": Format("tf", "Keras 3 model", (".keras",)),
    "h5": Format("tf", "Keras model in HDF5", (".h5", ".hdf5")),
    "h5_weights": Format("tf", "Keras weights in HDF5", (".h5", ".hdf5")),
    "saved_model": Format("tf", "TensorFlow SavedModel"),
    "saved_model_v1": Format("tf", "TensorFlow 1 SavedModel"),
    "tf1_checkpoint": Format("tf", "TensorFlow 1 checkpoint", (".meta", ".index", ".ckpt")),
    "frozen_graph": Format("tf", "frozen TensorFlow graph", (".pb",)),
    "tf_bundle": Format("tf", "TensorFlow object in memory"),
    "onnx": Format("onnx", "ONNX model", (".onnx",)),
}
"""Every format that can be read, by the name bridge uses for it."""

_KNOWN_SUFFIXES = frozenset(suffix for each in FORMATS.values() for suffix in each.suffixes)

_SUPPORTED = (
    "bridge reads .pt2, .pt/.pth (TorchScript, pickled module, state_dict), .safetensors, "
    "SavedModel directories, .keras, .h5, TensorFlow 1 checkpoints and frozen .pb graphs, and .onnx"
)


@dataclass(frozen=True)
class Location:
    """A model on disk: its format, and the path that the format's own loader takes.

    The path differs from the user's for a TensorFlow 1 checkpoint (its prefix, without `.meta`), for
    `saved_model.pb` (its directory) and for a directory that bridge wrote (the artifact in it).
    """

    format: str
    path: Path

    @property
    def framework(self) -> Framework:
        return FORMATS[self.format].framework


def detect(path: str | Path) -> str:
    """The name of a model's format. Raises InputError where it is none that bridge reads."""
    return locate(path).format


def locate(path: str | Path) -> Location:
    """What a path holds and where exactly.

    Raises InputError, with what to do about it, for a path that does not exist and for content that
    is empty, truncated, text, of another format than its suffix says, or unknown.
    """
    found = Path(path)
    if found.is_dir():
        return _directory(found)
    if not found.exists():
        return _missing(found)
    if not found.is_file():
        raise InputError("it is neither a file nor a directory", hint=_SUPPORTED, where=str(path))
    if found.name == "saved_model.pb":
        return _directory(found.parent)
    if found.suffix in (".meta", ".index") and found.with_suffix(".index").exists():
        return _checkpoint(found.with_suffix(""))
    try:
        location = Location(_file(found), found)
    except PermissionError as error:
        raise InputError("the file may not be read", hint="check its permissions", where=str(path)) from error
    _check_suffix(location)
    return location


def _check_suffix(location: Location) -> None:
    suffix = location.path.suffix.lower()
    kind = FORMATS[location.format]
    if suffix in _KNOWN_SUFFIXES and suffix not in kind.suffixes:
        renamed = location.path.with_suffix(kind.suffixes[0])
        raise InputError(
            f"the suffix {suffix} does not fit the content, which is a {kind.title}",
            hint=f"rename it if it is what you meant to convert: mv {location.path.name} {renamed.name}",
            where=str(location.path),
        )


def _missing(path: Path) -> Location:
    if path.with_name(path.name + ".index").exists():
        return _checkpoint(path)
    parent = path.parent
    if not parent.is_dir():
        raise InputError("no such file or directory", hint=f"{parent} does not exist either", where=str(path))
    names = sorted(each.name for each in parent.iterdir() if not each.name.startswith("."))
    close = difflib.get_close_matches(path.name, names, n=3, cutoff=0.6)
    if close:
        hint = "did you mean " + " or ".join(str(parent / name) for name in close) + "?"
    else:
        hint = (
            "check the path; a live module is converted in Python: bridge.convert(module, to=..., inputs=...)"
        )
    raise InputError("no such file or directory", hint=hint, where=str(path))


def _directory(path: Path) -> Location:
    """A SavedModel, a directory that bridge wrote, or one with a TensorFlow 1 checkpoint."""
    graph = path / "saved_model.pb"
    if graph.is_file():
        return Location(_saved_model(graph), path)
    if is_converted(path):
        artifact = path / "model.pt2"
        if not artifact.is_file():
            raise InputError(
                "this directory was written by bridge, but holds no model.pt2 to read the model from",
                hint="convert the original source again, or export model.py with torch.export",
                where=str(path),
            )
        return Location("pt2", artifact)
    if (path / "saved_model.pbtxt").is_file():
        raise InputError(
            "a SavedModel in text form is not read",
            hint="save it in binary form (saved_model.pb)",
            where=str(path),
        )
    prefixes = sorted(
        each.with_suffix("") for each in path.glob("*.meta") if each.with_suffix(".index").exists()
    )
    state = path / "checkpoint"
    if len(prefixes) > 1 and state.is_file():
        latest = _latest_checkpoint(state)
        prefixes = [each for each in prefixes if each.name == latest] or prefixes
    if len(prefixes) == 1:
        return _checkpoint(prefixes[0])
    if prefixes:
        raise InputError(
            f"the directory holds {len(prefixes)} checkpoints",
            hint=f"name one of them, for example {prefixes[-1]}",
            where=str(path),
        )
    models = sorted(each.name for each in path.iterdir() if each.suffix in _KNOWN_SUFFIXES)
    if models:
        hint = f"name the file itself, for example {path / models[0]}"
    else:
        hint = "a SavedModel directory contains saved_model.pb; " + _SUPPORTED
    raise InputError("the directory holds no model", hint=hint, where=str(path))


def is_converted(path: str | Path) -> bool:
    """Whether a directory was written by `bridge convert`."""
    return (Path(path) / "model.py").is_file() and (Path(path) / "weights.json").is_file()


def _latest_checkpoint(state: Path) -> str | None:
    for line in state.read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model_checkpoint_path":
            return Path(value.strip().strip('"')).name
    return None


def _checkpoint(prefix: Path) -> Location:
    if not prefix.with_name(prefix.name + ".meta").is_file():
        raise InputError(
            "the checkpoint has variables but no graph: there is no .meta file beside it",
            hint="save it with tf.compat.v1.train.Saver, or convert the Keras model or SavedModel "
            "that the weights belong to",
            where=str(prefix),
        )
    if not list(prefix.parent.glob(prefix.name + ".data-*-of-*")):
        raise InputError(
            "the checkpoint has no data file",
            hint=f"put {prefix.name}.data-00000-of-00001 beside {prefix.name}.index",
            where=str(prefix),
        )
    return Location("tf1_checkpoint", prefix)


def _saved_model(graph: Path) -> str:
    """TensorFlow 2 stores an object graph (field 7 of MetaGraphDef), TensorFlow 1 has none."""
    with protobuf.mapped(graph) as data:
        if not data:
            raise _empty(graph)
        try:
            fields = protobuf.fields(data)
            metas = [field.payload for field in fields if field.number == 2 and field.payload is not None]
            if not metas:
                raise _truncated(graph, "SavedModel")
            numbers = {field.number for field in protobuf.fields(data, *metas[0])}
        except protobuf.WireError as error:
            raise _truncated(graph, "SavedModel") from error
    return "saved_model" if 7 in numbers else "saved_model_v1"


def _file(path: Path) -> str:
    size = path.stat().st_size
    if size == 0:
        raise _empty(path)
    with path.open("rb") as stream:
        head = stream.read(4096)
    for starts, read in _SIGNATURES:
        if starts(head):
            return read(path)
    if head[4:8] == b"TFL3":
        raise InputError(
            "TensorFlow Lite models are not read yet",
            hint="convert the SavedModel or Keras model that it was made from",
            where=str(path),
        )
    if head.startswith(b"\x80"):
        scan = pickles.scan_pickle(path)
        if scan is None:
            raise _truncated(path, "pickle")
        if scan.legacy_torch and not scan.code:
            return "state_dict"
        return "pickle_module"
    name = _safetensors(path, head, size) or _protobuf(path)
    if name is not None:
        return name
    if _is_text(head):
        raise _text(path)
    if path.suffix.lower() in _KNOWN_SUFFIXES:
        raise _truncated(path, f"{path.suffix} file")
    raise InputError("the content is of no format that bridge knows", hint=_SUPPORTED, where=str(path))


def _zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            return _zip_content(path, archive)
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError) as error:
        raise _truncated(path, "zip archive (.pt, .pt2 or .keras)") from error


def _zip_content(path: Path, archive: zipfile.ZipFile) -> str:
    names = archive.namelist()
    inner = {name.split("/", 1)[1] if "/" in name else name for name in names}
    if "config.json" in names and "metadata.json" in names:
        return "keras"
    if "models/model.json" in inner or "serialized_exported_program.json" in names:
        return "pt2"
    if any(name.startswith("code/") for name in inner) and "constants.pkl" in inner:
        return "torchscript"
    if "data.pkl" in inner:
        member = next(name for name in names if name.split("/", 1)[-1] == "data.pkl")
        return "pickle_module" if pickles.scan_zip_member(archive, member).code else "state_dict"
    if any(name.endswith(".npy") for name in names):
        raise InputError(
            "this is a file of numpy arrays, not a model",
            hint="give the model as SOURCE, and arrays to run it on with --inputs",
            where=str(path),
        )
    raise InputError("the zip archive holds no model that bridge knows", hint=_SUPPORTED, where=str(path))


def _hdf5(path: Path) -> str:
    """HDF5: the superblock says where the file ends; a whole Keras model has the attribute `model_config`."""
    with protobuf.mapped(path) as data:
        version, sizes = data[8], data[13] if data[8] < 2 else data[9]
        start = 24 + 2 * sizes if version < 2 else 12 + 2 * sizes
        end = int.from_bytes(data[start : start + sizes], "little")
        if len(data) < end:
            raise _truncated(path, "HDF5 file")
        return "h5" if data.find(b"model_config\0") >= 0 else "h5_weights"


def _safetensors(path: Path, head: bytes, size: int) -> str | None:
    """A header length (8 bytes, little-endian), a JSON header, then data up to the end of the file."""
    if len(head) < 10 or head[8:9] != b"{":
        return None
    length = int.from_bytes(head[:8], "little")
    if length > size - 8:
        raise _truncated(path, "safetensors file")
    with path.open("rb") as stream:
        stream.seek(8)
        try:
            header = json.loads(stream.read(length))
            tensors = [entry for name, entry in header.items() if name != "__metadata__"]
            ends = [int(entry["data_offsets"][1]) for entry in tensors]
        except (ValueError, LookupError, TypeError):
            return None
    if 8 + length + max(ends, default=0) != size:
        raise _truncated(path, "safetensors file")
    return "safetensors"


def _protobuf(path: Path) -> str | None:
    """Tell ONNX's ModelProto (field 7: graph) from TensorFlow's GraphDef (1 to 4: nodes, library)."""
    with protobuf.mapped(path) as data:
        try:
            fields = list(protobuf.fields(data))
        except protobuf.WireError:
            return None
        if not fields or len(fields) > 5_000_000:
            return None
        numbers = {field.number for field in fields}
        first = fields[0]
        if any(field.number == 7 and field.payload for field in fields) and numbers <= set(range(1, 27)):
            return "onnx"
        if first.payload is not None and numbers <= {1, 2, 3, 4}:
            nodes = [field.payload for field in fields if field.number == 1]
            if nodes and all(payload is not None and _is_node(data, payload) for payload in nodes[:20]):
                return "frozen_graph"
    return None


def _is_node(data: protobuf.Buffer, payload: tuple[int, int]) -> bool:
    """Whether a message could be TensorFlow's NodeDef: a name (1) and an operator (2), both text."""
    try:
        texts = {field.number: field.payload for field in protobuf.fields(data, *payload)}
    except protobuf.WireError:
        return False
    return texts.get(1) is not None and texts.get(2) is not None


_SIGNATURES: tuple[tuple[Callable[[bytes], bool], Callable[[Path], str]], ...] = (
    (lambda head: head.startswith(b"PK\x03\x04"), _zip),
    (lambda head: head.startswith(b"\x89HDF\r\n\x1a\n"), _hdf5),
)


def _is_text(head: bytes) -> bool:
    return b"\0" not in head and all(byte >= 32 or byte in b"\t\n\r\f\x1b" for byte in head)


def _empty(path: Path) -> InputError:
    return InputError(
        "the file is empty", hint="save the model again, or copy it again completely", where=str(path)
    )


def _truncated(path: Path, what: str) -> InputError:
    return InputError(
        f"the {what} is truncated or damaged",
        hint="compare its size with the original's and copy it again",
        where=str(path),
    )


def _text(path: Path) -> InputError:
    if path.suffix == ".py":
        hint = f"Python code goes with its weights: bridge convert WEIGHTS --model {path.stem}:FACTORY"
    elif path.suffix == ".pbtxt":
        hint = "save the graph in binary form: tf.io.write_graph(..., as_text=False)"
    else:
        hint = _SUPPORTED
    return InputError("the file is text, not a model", hint=hint, where=str(path))
