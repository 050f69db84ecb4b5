"""How packages add to bridge."""

PLUGIN_GROUP = "bridge.converters"
"""The entry point group of plug-ins. A name is the target, a dot and anything: `torch.my_operators`."""
