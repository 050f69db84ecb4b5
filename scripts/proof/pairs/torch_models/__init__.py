"""The PyTorch versions of the right pairs; the TensorFlow versions take over their weights."""

from scripts.proof.pairs.torch_models.registry import make, names, save, write

__all__ = ["make", "names", "save", "write"]
