"""Attention that arrives taken apart, as the standard's Attention, and that as a target's own."""

from bridge.passes.attention.mask_views import simplify_masks
from bridge.passes.attention.native import lower_attention
from bridge.passes.attention.operands import straighten_attention
from bridge.passes.attention.recognise import recognise_attention

__all__ = ["lower_attention", "recognise_attention", "simplify_masks", "straighten_attention"]
