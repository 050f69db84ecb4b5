"""Recurrent operators as the targets' own layers compute them."""

from bridge.passes.recurrent.fuse import fuse_recurrent_layers
from bridge.passes.recurrent.groups import composed_notes
from bridge.passes.recurrent.loops import recognise_recurrences
from bridge.passes.recurrent.recognise import recognise_cells

__all__ = ["composed_notes", "fuse_recurrent_layers", "recognise_cells", "recognise_recurrences"]
