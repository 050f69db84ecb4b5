"""onnxruntime's own operators, which its optimizers and exporters write, in the standard's terms."""
