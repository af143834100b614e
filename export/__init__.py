"""Export: makes a checked bundle of ONNX (or TensorRT) models from a student."""
