"""Training loops, optimisers and evaluation. Whoever trains or runs a model of transformers imports this package."""

import os

from huggingface_hub.utils import enable_progress_bars
from transformers.utils import logging

from compress.runtime.quiet import HUB

logging.set_verbosity_error()  # it would warn of "newly initialized weights", which are normal in fine-tuning
logging.disable_progress_bar()  # of weights that are read or written; that of the hub's client too
if os.environ.get(HUB) is None:
    enable_progress_bars()  # a download takes minutes
