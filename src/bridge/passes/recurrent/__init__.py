"""Recurrent operators as the targets' own layers compute them."""

from bridge.passes.recurrent.fuse import fuse_recurrent_layers

__all__ = ["fuse_recurrent_layers"]
