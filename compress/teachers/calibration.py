"""Temperature scaling (Guo et al. 2017, arXiv 1706.04599, §4.2): a teacher that is as sure as it is right.

The mean of several trainings' weights is surer of its answers than each of them, and than it deserves. A student that learns such
answers hears too little of what else a text could be. One number, fitted on dev, mends that. It changes no label.
"""

from __future__ import annotations

import math

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from compress.console import console
from compress.data.batches import EncodedSplit
from compress.training.evaluation import predict_logits
from compress.training.output_layer import output_layer

# No teacher is made surer than it is: on a dev set that it answers without an error there would be no end to that.
LOWEST, HIGHEST = 1.0, 8.0


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature T in [`LOWEST`, `HIGHEST`] with the least cross entropy of softmax(logits / T): (N, C), (N,)."""
    values = logits.double()

    def error(log_temperature: float) -> float:
        return float(F.cross_entropy(values / math.exp(log_temperature), labels))

    # Convex in 1 / T, so with a single minimum in log T.
    return math.exp(minimize_scalar(error, bounds=(math.log(LOWEST), math.log(HIGHEST)), method="bounded").x)


def calibrate(model: PreTrainedModel, dev: EncodedSplit) -> float:
    """Divide the model's logits by the temperature that fits dev, inside its last layer. Returns the temperature.

    :raises UserError: the model has no linear layer for its logits.
    """
    layer = output_layer(model, "teacher.soup: its calibration")
    logits = predict_logits(model, dev)
    temperature = fit_temperature(logits, dev.labels)
    with torch.no_grad():
        layer.weight.div_(temperature)
        if layer.bias is not None:
            layer.bias.div_(temperature)
    before, after = (float(F.cross_entropy(logits / t, dev.labels)) for t in (1.0, temperature))
    console.print(
        f"  teacher: logits divided by {temperature:.2f}, so that it is as sure on dev as it is right (cross entropy {before:.3f}, now {after:.3f})"
    )
    return temperature
