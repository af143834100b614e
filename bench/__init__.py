"""Measure latency, throughput and accuracy against the uncompressed BERT."""

import compress  # noqa: F401 - turns telemetry off before ONNX Runtime is imported
