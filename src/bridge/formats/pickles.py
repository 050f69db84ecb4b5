"""What a pickle would import when it is loaded, found without loading it."""

from __future__ import annotations

import pickletools
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

LEGACY_TORCH_MAGIC = 0x1950A86A20F9469CFC6C
"""What files of `torch.save` before PyTorch 1.6 start with (`MAGIC_NUMBER` in torch/serialization.py)."""

_LARGEST_PICKLE = 1 << 30
_DATA_MODULES = ("torch._utils", "torch.storage", "torch._tensor")
_DATA_GLOBALS = frozenset(
    {
        "_codecs.encode",
        "builtins.bytearray",
        "builtins.complex",
        "builtins.set",
        "collections.Counter",
        "collections.OrderedDict",
        "collections.defaultdict",
        "torch.Size",
        "torch.Tensor",
        "torch.device",
        "torch.nn.parameter.Parameter",
        "torch.serialization._get_layout",
    }
)
_STRING_OPCODES = frozenset(
    {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "SHORT_BINSTRING", "BINSTRING", "STRING"}
)
_MEMO_WRITES = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_MEMO_READS = frozenset({"GET", "BINGET", "LONG_BINGET"})


@dataclass(frozen=True)
class PickleScan:
    """The dotted names that a pickle imports, sorted, and whether it is in torch's old layout."""

    imports: tuple[str, ...]
    legacy_torch: bool = False

    @property
    def code(self) -> tuple[str, ...]:
        """The imports beyond tensors and plain containers: what needs trust."""
        return tuple(name for name in self.imports if not _is_data(name))


def _is_data(name: str) -> bool:
    module, _, attribute = name.rpartition(".")
    if name in _DATA_GLOBALS:
        return True
    if module in _DATA_MODULES:
        return attribute.startswith("_rebuild") or attribute.endswith("Storage")
    # torch.FloatStorage, torch.cuda.HalfStorage, and dtypes such as torch.float32, which have no call.
    if module in ("torch", "torch.cuda"):
        return attribute.endswith("Storage") or attribute.rstrip("0123456789_") in (
            "bfloat",
            "bool",
            "complex",
            "float",
            "int",
            "uint",
        )
    return False


def scan_stream(stream: IO[bytes]) -> tuple[set[str], object]:
    """Read one pickle's opcodes. Returns the names it imports and its last integer.

    A name whose parts do not stand in the opcodes is given as `?`. Raises ValueError on bytes that
    are not a complete pickle.
    """
    imports: set[str] = set()
    memo: dict[int, str | None] = {}
    recent: list[str] = []
    top: str | None = None
    last_integer: object = None
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name in _STRING_OPCODES:
            top = argument if isinstance(argument, str) else None
            recent = [*recent[-1:], argument if isinstance(argument, str) else "?"]
        elif opcode.name == "MEMOIZE":
            memo[len(memo)] = top
        elif opcode.name in _MEMO_WRITES:
            memo[int(str(argument))] = top
        elif opcode.name in _MEMO_READS:
            top = memo.get(int(str(argument)))
            if top is not None:
                recent = [*recent[-1:], top]
        elif opcode.name in ("GLOBAL", "INST"):
            imports.add(str(argument).replace(" ", "."))
            top = None
        elif opcode.name == "STACK_GLOBAL":
            imports.add(".".join(recent) if len(recent) == 2 else "?")
            top = None
            recent = []
        else:
            if opcode.name in ("EXT1", "EXT2", "EXT4"):
                imports.add("?")
            if isinstance(argument, int):
                last_integer = argument
            top = None
    return imports, last_integer


def scan_pickle(path: Path) -> PickleScan | None:
    """Scan a plain pickle file or a file in torch's old layout; None if the file is neither.

    In torch's old layout the object is the fourth pickle of the file: a magic number, a protocol
    version and a record of the system stand before it.
    """
    with path.open("rb") as stream:
        try:
            imports, number = scan_stream(stream)
            if number != LEGACY_TORCH_MAGIC:
                return PickleScan(tuple(sorted(imports)))
            for _ in range(3):
                imports |= scan_stream(stream)[0]
        except (ValueError, IndexError, KeyError, UnicodeDecodeError):
            return None
    return PickleScan(tuple(sorted(imports)), legacy_torch=True)


def scan_zip_member(archive: zipfile.ZipFile, member: str) -> PickleScan:
    """Scan the pickle in an archive of `torch.save`. Raises ValueError if it is damaged or absurdly large."""
    if archive.getinfo(member).file_size > _LARGEST_PICKLE:
        raise ValueError(f"{member} is larger than any pickle of tensors' names")
    with archive.open(member) as stream:
        imports, _ = scan_stream(stream)
    return PickleScan(tuple(sorted(imports)))
