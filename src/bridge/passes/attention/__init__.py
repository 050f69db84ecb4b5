"""Attention that arrives taken apart, as the standard's Attention."""

from bridge.passes.attention.recognise import recognise_attention

__all__ = ["recognise_attention"]
