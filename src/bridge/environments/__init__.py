"""Python environments of other versions: interpreters that are found, and virtual environments that are made.

docs/environments.md says how to use them.
"""

from bridge.environments.cache import (
    CachedEnvironment,
    as_record,
    cache_directory,
    cached,
    environment_for,
    remove,
)
from bridge.environments.choice import EnvironmentChoice
from bridge.environments.interpreters import Interpreter, find_interpreter

__all__ = [
    "CachedEnvironment",
    "EnvironmentChoice",
    "Interpreter",
    "as_record",
    "cache_directory",
    "cached",
    "environment_for",
    "find_interpreter",
    "remove",
]
