"""Old operator versions, carried step by step to the hub's opset: one function per change of meaning."""
