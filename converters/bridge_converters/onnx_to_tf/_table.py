"""The table that the family modules of this package register with."""

from bridge.emit.lowering import LoweringTable
from bridge_converters._refusals import TF

TABLE = LoweringTable("tf", package="bridge_converters.onnx_to_tf", refusals=TF)
lowering = TABLE.lowering
layer_rule = TABLE.layer_rule
