"""Make `import torchvision` work beside a CPU-only build of PyTorch.

torchvision registers shape functions for its compiled operators when it is imported, and fails with
"operator torchvision::nms does not exist" where its compiled part does not load, as with the ordinary
wheel beside a CPU-only torch. timm and much user code import torchvision for its Python parts only.
Declaring the missing operator's schema first is enough for those; calling it still raises.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path

import torch

_OPERATORS = ("nms", "qnms")
_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


@cache
def declare_missing_operators() -> None:
    """Declare the operators that importing torchvision needs, if torchvision is installed and lacks them.

    To be called before code of the user's is loaded. Does not import torchvision.
    """
    package = importlib.util.find_spec("torchvision")
    if package is None or package.origin is None or _compiled_part_loads(Path(package.origin).parent):
        return
    for name in _OPERATORS:
        if not hasattr(torch.ops.torchvision, name):
            _library().define(name + _SIGNATURE)  # type: ignore[no-untyped-call]


@cache
def _library() -> torch.library.Library:
    """The fragment of torchvision's namespace; a declaration lasts as long as this object."""
    return torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]


def _compiled_part_loads(folder: Path) -> bool:
    """Whether the extension library loads; torchvision loads the same file later, which is harmless."""
    for library in sorted(folder.glob("_C.*")):
        try:
            torch.ops.load_library(str(library))  # type: ignore[no-untyped-call]
        except OSError:
            continue
        return True
    return False
