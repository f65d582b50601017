"""From an ONNX file to a program: Graph -> Mapping -> Program."""
