"""What a serving image needs of this package: errors, the text encoder and ONNX Runtime. No torch."""
