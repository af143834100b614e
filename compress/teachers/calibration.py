"""Temperature scaling (Guo et al. 2017, arXiv 1706.04599, §4.2): a teacher that is as sure as it is right.

The mean of several trainings' weights is surer of its answers than each of them, and than it deserves. A student that learns such
answers hears too little of what else a text could be. One number, fitted on dev, mends that. It changes no label.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F
from transformers import PreTrainedModel

from compress.console import console
from compress.data.batches import EncodedSplit
from compress.training.evaluation import predict_logits
from compress.training.output_layer import output_layer
from compress.training.temperature import fit_temperature


def calibrate(model: PreTrainedModel, dev: EncodedSplit) -> float:
    """Divide the model's logits by the temperature that fits dev, inside its last layer. Returns the temperature.

    It is at least 1: no teacher is made surer than it is. On few texts without many errors it would be by far too sure.

    :raises UserError: the model has no linear layer for its logits.
    """
    layer = output_layer(model, "teacher.soup: its calibration")
    logits = predict_logits(model, dev)
    temperature = max(1.0, fit_temperature(logits.numpy(), dev.labels.numpy()))
    with torch.no_grad():
        layer.weight.div_(temperature)
        if layer.bias is not None:
            layer.bias.div_(temperature)
    before, after = (float(F.cross_entropy(logits / t, dev.labels)) for t in (1.0, temperature))
    console.print(
        f"  teacher: logits divided by {temperature:.2f}, so that it is as sure on dev as it is right (cross entropy {before:.3f}, now {after:.3f})"
    )
    return temperature
