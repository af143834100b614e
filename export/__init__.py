"""Export: a student in, a checked bundle of ONNX (or TensorRT) models out."""
