"""The only part of the compiler that reads ONNX files."""
