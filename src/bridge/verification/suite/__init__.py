"""Many pairs of models verified in one go: `bridge verify --suite suite.toml`."""

from bridge.verification.suite.file import Pair, Suite, read_suite
from bridge.verification.suite.running import run_suite

__all__ = ["Pair", "Suite", "read_suite", "run_suite"]
