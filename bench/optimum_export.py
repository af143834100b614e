"""Exports a checkpoint with Optimum. `bench.baseline` runs this file with the interpreter of another environment.

    PYTHON optimum_export.py                                            prints the versions of Optimum and transformers
    PYTHON optimum_export.py CHECKPOINT MODEL.onnx                      exports in fp32
    PYTHON optimum_export.py CHECKPOINT MODEL.onnx avx512_vnni          and quantises for these CPUs (avx2, arm64)

optimum-onnx needs an older transformers than this project. So this file imports nothing of the project.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

MAKERS = ("optimum-onnx", "transformers", "torch", "onnx", "onnxruntime")


def versions() -> dict[str, str]:
    """The versions of what makes the files.

    :raises SystemExit: one of the packages is missing.
    """
    try:
        return {name: version(name) for name in MAKERS}
    except PackageNotFoundError as error:
        sys.exit(f"it has no {error.name}")


def export(checkpoint: str, target: str, instructions: str | None = None) -> None:
    """Write the classifier of a directory as ONNX.

    :param instructions: also quantise it with Optimum's configuration of this name, with dynamic ranges.
    """
    from optimum.exporters.onnx import main_export
    from optimum.onnxruntime import AutoQuantizationConfig, ORTQuantizer

    with tempfile.TemporaryDirectory(dir=Path(target).parent) as folder:
        main_export(checkpoint, folder, task="text-classification", framework="pt")
        made = Path(folder) / "model.onnx"
        if instructions is not None:
            configuration = getattr(AutoQuantizationConfig, instructions)(is_static=False, per_channel=True)
            ORTQuantizer.from_pretrained(folder).quantize(save_dir=folder, quantization_config=configuration)
            made = Path(folder) / "model_quantized.onnx"
        shutil.move(made, target)


if __name__ == "__main__":
    if sys.argv[1:]:
        export(*sys.argv[1:])
    else:
        print(json.dumps(versions()))
