"""The operator registry: what each ONNX operator means, how its shapes follow, what becomes of it."""
