"""The TensorFlow versions of the right pairs, written by hand over the weights of the PyTorch versions."""

from scripts.proof.pairs.tf_models.registry import make, names, save, write
from scripts.proof.pairs.tf_models.weights import Weights

__all__ = ["Weights", "make", "names", "save", "write"]
