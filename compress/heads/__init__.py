"""Classification heads that transformers does not have. Importing this package lets the Auto classes open their checkpoints."""

from compress.heads.mean_pooling import MEAN_CLASSIFIERS, MeanPooling, register

register()

__all__ = ["MEAN_CLASSIFIERS", "MeanPooling"]
