"""The table that the family modules of this package register with."""

from bridge.emit.lowering import LoweringTable

TABLE = LoweringTable("tf", package="bridge_converters.onnx_to_tf")
lowering = TABLE.lowering
layer_rule = TABLE.layer_rule
