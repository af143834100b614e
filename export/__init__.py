"""Export: makes a checked bundle of ONNX (or TensorRT) models from a student."""

import compress  # noqa: F401 - turns telemetry off before ONNX Runtime is imported
