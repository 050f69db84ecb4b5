"""The one opset of hub graphs."""

HUB_OPSET = 23
