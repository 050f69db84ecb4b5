"""Right pairs: versions of the same model, in both frameworks, that the verdict must call equivalent."""

from scripts.proof.pairs.build import build, source_path, target_path, tf_path, torch_path
from scripts.proof.pairs.catalog import PAIRS, Input, Pair

__all__ = ["PAIRS", "Input", "Pair", "build", "source_path", "target_path", "tf_path", "torch_path"]
