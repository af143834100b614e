"""Accuracy-controlled quantisation: the fastest INT8 graph that passes the gate.

First the schemes that quantise the whole graph. If none passes, the layers are ranked by what each of them loses when it alone is
quantised, and as few as possible of the most sensitive ones stay in float.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from compress.console import console
from compress.runtime.encode import Encoded
from export.gate import Gate, GateResult
from export.manifest import Attempt
from export.quantize import Scheme, prepare, quantizable_nodes, quantize_prepared
from export.session import OnnxModel

RANKING_TEXTS = 64  # calibration texts on which each layer alone is measured
LARGEST_SHARE = 0.5  # of the layers in float; with more, INT8 is hardly faster than fp32
SHOWN_LAYERS = 4  # names in a line of the terminal; the manifest has all


@dataclass(frozen=True)
class Quantized:
    """An INT8 file, what the gate says about it, and how it was found."""

    file: Path
    result: GateResult
    scheme: Scheme
    float_layers: list[str]  # besides the output layers
    attempts: list[Attempt]  # all, in their order
    sensitivity: dict[str, float]  # of each layer, the most sensitive first; see `AccuracyControl._rank`

    @property
    def note(self) -> str:
        """How the file was made, for a manifest."""
        return _describe(self.scheme, self.float_layers)


class AccuracyControl:
    """Quantises one fp32 graph until the gate passes it.

    :param name: of the precision, for messages.
    :param gate: it has evaluated the fp32 graph.
    :param texts: calibration texts from the training split.
    :param scratch: a directory for the tried graphs.
    """

    def __init__(
        self, name: str, fp32: Path, gate: Gate, texts: Sequence[Encoded], pad_token_id: int, scratch: Path
    ) -> None:
        self._name, self._fp32, self._gate = name, fp32, gate
        self._texts, self._pad_token_id, self._scratch = texts, pad_token_id, scratch
        self._prepared = scratch / f"{name}.prepared.onnx"
        self._tried: list[Quantized] = []
        self._sensitivity: dict[str, float] = {}

    def run(self, schemes: Sequence[Scheme]) -> Quantized:
        """Try until one passes.

        :param schemes: those for the whole graph, in the order in which to try them.
        :returns: what passed, or what came closest to it.
        """
        prepare(self._fp32, self._prepared)
        for scheme in schemes:
            if self._try(scheme, []).result.passed:
                return self._chosen()
        scheme = self._closest().scheme
        self._sensitivity = self._rank(scheme)
        self._fewest_in_float(scheme, list(self._sensitivity))
        return self._chosen()

    def _closest(self) -> Quantized:
        return min(self._tried, key=lambda one: one.result.excess)

    def _chosen(self) -> Quantized:
        """Of those that passed the one with the fewest layers in float, else the closest; and all attempts."""
        passed = [one for one in self._tried if one.result.passed]
        chosen = min(passed, key=lambda one: len(one.float_layers)) if passed else self._closest()
        attempts = [attempt for one in self._tried for attempt in one.attempts]
        return replace(chosen, attempts=attempts, sensitivity=self._sensitivity)

    def _try(self, scheme: Scheme, float_layers: list[str]) -> Quantized:
        file = self._scratch / f"{self._name}.{len(self._tried)}.onnx"
        quantize_prepared(self._prepared, file, scheme, self._texts, self._pad_token_id, in_float=float_layers)
        result = self._gate.evaluate(file)
        attempt = Attempt(
            quantisation=scheme.note,
            float_layers=float_layers,
            drop=result.drop,
            agreement=result.agreement,
            passed=result.passed,
        )
        self._tried.append(tried := Quantized(file, result, scheme, float_layers, [attempt], {}))
        if not result.passed:
            wanted = self._gate.wanted
            console.print(f"  [yellow]{self._name}: {tried.note}: {result.verdict}; wanted: {wanted}[/]")
        return tried

    def _rank(self, scheme: Scheme) -> dict[str, float]:
        """The layers that lose anything when they alone are quantised, and what; the most sensitive first.

        What is measured is the mean squared error of the logits against fp32. Accuracy would need far more texts to tell two
        layers apart.
        """
        texts = self._texts[:RANKING_TEXTS]
        exact = OnnxModel(self._fp32).logits_in_batches(texts, self._pad_token_id)
        file, errors = self._scratch / f"{self._name}.alone.onnx", dict[str, float]()
        for node in quantizable_nodes(self._prepared, scheme):
            quantize_prepared(self._prepared, file, scheme, texts, self._pad_token_id, only=[node])
            logits = OnnxModel(file).logits_in_batches(texts, self._pad_token_id)
            errors[node] = float(np.square(logits - exact).mean())
        ranked = {node: errors[node] for node in sorted(errors, key=lambda node: -errors[node]) if errors[node] > 0}
        worst = ", ".join(f"{node} {error:.2g}" for node, error in [*ranked.items()][:SHOWN_LAYERS])
        console.print(
            f"  {self._name}: {len(ranked)} layers quantised one at a time; squared error of the logits: {worst}, …"
        )
        return ranked

    def _fewest_in_float(self, scheme: Scheme, ranked: list[str]) -> None:
        """Keep 1, 2, 4, … of the ranked layers in float until the graph passes; then halve the interval to the last that failed."""
        most = max(1, int(LARGEST_SHARE * len(ranked)))
        failed, count = 0, min(1, len(ranked))
        while failed < count and not self._try(scheme, ranked[:count]).result.passed:
            failed, count = count, min(2 * count, most)
        if failed == count:
            return  # none passed
        while count - failed > 1:
            middle = (failed + count) // 2
            if self._try(scheme, ranked[:middle]).result.passed:
                count = middle
            else:
                failed = middle


def _describe(scheme: Scheme, float_layers: list[str]) -> str:
    """The scheme and the layers in float, in words."""
    if not float_layers:
        return scheme.note
    shown = ", ".join(float_layers[:SHOWN_LAYERS]) + (", …" if len(float_layers) > SHOWN_LAYERS else "")
    return f"{scheme.note}, {len(float_layers)} layer{'s' * (len(float_layers) > 1)} in float ({shown})"
