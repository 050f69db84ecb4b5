"""The command line: arguments become calls of the Python API, and results become text."""

from bridge.cli.app import main

__all__ = ["main"]
