"""The table that the family modules of this package register with."""

from bridge.emit.lowering import LoweringTable
from bridge_converters._refusals import TORCH

TABLE = LoweringTable("torch", package="bridge_converters.onnx_to_torch", refusals=TORCH)
lowering = TABLE.lowering
layer_rule = TABLE.layer_rule
