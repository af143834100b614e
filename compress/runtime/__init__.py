"""What a serving image needs of this package: errors, whole files, the text encoder and ONNX Runtime. No torch."""
