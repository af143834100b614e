"""Measures the cascade of a bundle at several thresholds, beside the student alone and the teacher alone, in one run."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.cascade.report import CascadeReport, Row
from bench.compare import labelled
from bench.environment import describe, typed_command
from bench.inputs import Texts
from bench.isolate import choose_cpus
from bench.latency import Clock
from compress.busy import busy_share
from compress.console import console
from compress.data.domains import load_student_corpus
from compress.recipe import Recipe, load_recipe
from compress.recipe.load import recipe_from
from compress.runtime.errors import UserError
from export.bundle import MANIFEST, Bundle, find_bundle
from export.calibration import expected_calibration_error
from export.manifest import Route
from export.session import FloatArray
from serve.cascade import Cascade
from serve.messages import Request
from serve.predictor import Predictor
from serve.settings import Settings

SHARES = (0.05, 0.1, 0.2, 0.33, 0.5)  # of dev, whose thresholds are measured besides none, all and the bundle's own
ROUNDS = 4  # over the timed texts; the first is a warm-up


@dataclass(frozen=True)
class _Variant:
    """A way to answer."""

    title: str
    threshold: float | None  # None: the teacher alone


def find_task(place: Path, settings: list[str], artifacts: Path) -> tuple[Recipe, Path]:
    """The recipe and the directory of the bundle that a user means by a recipe's file, or by a bundle.

    :raises UserError: there is no such file or bundle, or the bundle does not say from which recipe it comes.
    """
    if place.suffix == ".toml":
        recipe = load_recipe(place, settings)
        return recipe, find_bundle(artifacts / recipe.name)
    directory = find_bundle(place)
    written = Bundle(directory).manifest.provenance.get("recipe")
    if not written:
        raise UserError(f"{directory}: the bundle does not say from which recipe it comes; give the recipe's file")
    if settings:
        raise UserError("--set: changes a recipe's file, and a bundle is given; give the file in its place")
    return recipe_from(written, str(directory / MANIFEST)), directory


def measure_cascade(recipe: Recipe, directory: Path) -> CascadeReport:
    """Measure a bundle's cascade on test, or on dev where there is no test.

    :raises UserError: the bundle has no cascade, or other labels than the recipe's data.
    """
    threads = recipe.bench.threads
    cpus = choose_cpus(threads)
    environment = describe("cpu").model_copy(update={"busy_share": busy_share(cpus)})
    corpus = load_student_corpus(recipe)
    given = labelled(corpus)
    with _pinned(cpus):
        # `model_construct` and not the constructor, which would read the environment of a server.
        settings = Settings.model_construct(bundle=directory.absolute(), threads=threads, cascade=True)
        predictor = Predictor(settings)
        if predictor.domains:
            raise UserError(
                f"{directory}: has a cascade for each domain, and one is measured; make a bundle of one domain with domains.student"
            )
        if predictor.labels != corpus.labels:
            raise UserError(f"{directory}: its labels are {predictor.labels}, the data's {corpus.labels}: another task")
        entry = Bundle(directory).manifest.cascade
        assert entry is not None, "the predictor has a cascade"
        route = entry.routes[predictor.info.precision]
        rows = _measure(predictor, route, given.texts, np.asarray(given.labels), recipe.bench.texts)
    return CascadeReport(
        name=recipe.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=typed_command(),
        split=corpus.report_split,
        texts=len(given.texts),
        timed_texts=min(recipe.bench.texts, len(given.texts)),
        threads=threads,
        student=predictor.info.precision,
        teacher=entry.precision,
        environment=environment,
        rows=rows,
        dev=route,
    )


def _measure(
    predictor: Predictor, route: Route, texts: Texts, labels: NDArray[np.int64], timed_texts: int
) -> list[Row]:
    cascade = predictor.cascade
    assert cascade is not None, "the settings ask for it"
    variants = _variants(route)
    with console.status("") as status:
        status.update("student and teacher: accuracy")
        student = predictor.session.predict(texts.first, texts.second)
        teacher = cascade.teacher.predict(texts.first, texts.second)
        status.update("cascade: time")
        timed = texts.take(_spread(student.max(axis=1), timed_texts))
        seconds: Sequence[str | None] = timed.second or [None] * len(timed)
        requests = [Request(text=text, text_b=text_b) for text, text_b in zip(timed.first, seconds, strict=True)]
        try:
            times = mean_times([_call(predictor, cascade, variant) for variant in variants], requests)
        finally:
            predictor.cascades[predictor.default_domain] = cascade
    rows = []
    for variant, ms in zip(variants, times, strict=True):
        passed = np.ones(len(labels), bool)
        if variant.threshold is not None:
            passed[:] = False
            passed[replace(cascade, threshold=variant.threshold).unsure(student)] = True
        answers: FloatArray = np.where(passed[:, None], teacher, student)
        rows.append(
            Row(
                title=variant.title,
                threshold=variant.threshold,
                share=float(passed.mean()),
                accuracy=float((answers.argmax(axis=1) == labels).mean()),
                ece=expected_calibration_error(answers, labels),
                mean_ms=ms,
            )
        )
    return rows


def _variants(route: Route) -> list[_Variant]:
    at = {share: [point for point in route.curve if point.share <= share + 1e-9][-1].threshold for share in SHARES}
    named = {threshold: f"{share:.0%} of dev" for share, threshold in at.items()}
    named[route.chosen.threshold] = f"as exported, {route.chosen.share:.0%} of dev"
    named |= {0.0: "student alone", 1.0: "both, every text"}
    return [*(_Variant(named[threshold], threshold) for threshold in sorted(named)), _Variant("teacher alone", None)]


def _spread(scores: FloatArray, count: int) -> list[int]:
    """Rows of texts at equal distances in the order of their scores, so that they are passed on as often as all texts."""
    order = np.argsort(scores, kind="stable")
    count = min(count, len(order))
    return order[(np.arange(count) + 0.5).astype(int) * len(order) // count].tolist()


def mean_times(
    calls: Sequence[Callable[[Request], object]], requests: Sequence[Request], clock: Clock = time.perf_counter_ns
) -> list[float]:
    """Mean milliseconds of a request for each call; of each request the fastest round counts.

    The calls take turns request by request, so that a disturbance of the machine meets all of them. Each is made once without a
    record first: the one before had the caches, and a student finds less of itself there after a teacher than after itself.

    :param clock: monotonic time in ns.
    """
    samples = np.zeros((ROUNDS, len(requests), len(calls)))
    gc.collect()
    gc.disable()  # its pauses are not the models'
    try:
        for number in range(ROUNDS):
            for row, request in enumerate(requests):
                for column, call in enumerate(calls):
                    call(request)
                    started = clock()
                    call(request)
                    samples[number, row, column] = (clock() - started) / 1e6
    finally:
        gc.enable()
    return samples[1:].min(axis=0).mean(axis=0).tolist()


def _call(predictor: Predictor, cascade: Cascade, variant: _Variant) -> Callable[[Request], object]:
    if variant.threshold is None:
        return lambda request: cascade.teacher.predict(request.texts, request.texts_b)
    own = replace(cascade, threshold=variant.threshold)

    def classify(request: Request) -> object:
        predictor.cascades[predictor.default_domain] = own
        return predictor.classify(request)

    return classify


@contextmanager
def _pinned(cpus: list[int] | None) -> Iterator[None]:
    """Keep this process, and the threads that it starts, on some CPUs. See `bench.isolate`."""
    if cpus is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
