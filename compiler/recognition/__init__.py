"""Reading structure in ONNX graphs: regions between values, layouts of heads and rows, masks, biases, caches.

The passes `Recognise...` ask here what a piece of a graph means; nothing here changes a graph.
"""
