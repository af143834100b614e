"""The engines that are compared. An engine is one way to run one classifier, with all that a fresh process needs to open it.

To add an engine:

1. Write a module here with a subclass of `Engine`. Give it the field `runtime: Literal["NAME"] = "NAME"`, with a name of
   its own. This field tells the kinds apart in a job's JSON.
2. Write its class method `offers`. It yields an `Offer` for each engine of this kind that a task can have. An offer's
   name is what `--only` and `--skip` accept. Its `make` finds the engine's files or makes them: what is trained, with a method
   of `bench.rivals.Rivals`. It runs only if the engine was chosen.
3. Write its method `open`. It returns a subclass of `Model`: logits, number of weights and file size. A model that does not
   read token ids overrides `encode` too. Import large packages inside `open`, so that other engines' processes do not
   load them.
4. Add the class to `Kind` below.

Nothing else changes: the command line, the report and the plot show every engine that is offered.
"""

from __future__ import annotations

from typing import Annotated, get_args

from pydantic import Field

from bench.engines.base import FAMILIES, Classifier, Engine, Family, Model, Offer
from bench.engines.bundled import BundleEngine
from bench.engines.fasttext import FastTextEngine
from bench.engines.majority import MajorityEngine
from bench.engines.ngrams import NgramEngine
from bench.engines.onnx import OnnxEngine
from bench.engines.pytorch import TorchEngine
from bench.engines.static import StaticEngine

# Tables show the kinds of a family in this order.
Kind = MajorityEngine | NgramEngine | FastTextEngine | StaticEngine | TorchEngine | OnnxEngine | BundleEngine
KINDS: tuple[type[Kind], ...] = get_args(Kind)
AnyEngine = Annotated[Kind, Field(discriminator="runtime")]

__all__ = [
    "FAMILIES",
    "KINDS",
    "AnyEngine",
    "BundleEngine",
    "Classifier",
    "Engine",
    "Family",
    "FastTextEngine",
    "Kind",
    "MajorityEngine",
    "Model",
    "NgramEngine",
    "Offer",
    "OnnxEngine",
    "StaticEngine",
    "TorchEngine",
]
