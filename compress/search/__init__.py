"""AdaBERT: differentiable search of a small convolutional network for the task (arXiv 2001.04246)."""
