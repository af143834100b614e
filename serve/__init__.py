"""Serving: answers HTTP requests with the models of a bundle. Imports neither torch nor transformers."""

import compress  # noqa: F401 - turns telemetry off before ONNX Runtime is imported
