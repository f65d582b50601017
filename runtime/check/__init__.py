"""Are the values right? A compiled model against ONNX Runtime, as a whole and layer by layer."""
