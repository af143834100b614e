"""Alerts, dashboard and the metrics of the autoscaler ask for what a server that runs has in its /metrics."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import make_tiny_bundle
from tests.deploy.manifests import DEPLOY, read, resource
from tests.serve.test_drift import with_reference
from tests.serve.test_running_server import Server, until
from tests.tiny_cascade import add_cascade

ALERTS = DEPLOY / "prometheus" / "alerts.yml"
DASHBOARD = json.loads((DEPLOY / "grafana" / "pocketbert.json").read_text(encoding="utf-8"))
SCRAPED = {"job", "namespace", "pod", "instance"}  # the labels that Prometheus adds (deploy/prometheus/prometheus.yml)
TIMES = {"$__rate_interval": "5m", "$namespace": ".*"}  # what Grafana puts in


def alerts() -> list[dict[str, Any]]:
    [group] = read(ALERTS)["groups"]
    return group["rules"]


def adapter_rules() -> list[dict[str, Any]]:
    return read(DEPLOY / "prometheus" / "adapter.yml")["rules"]


def adapter_query(rule: dict[str, Any]) -> str:
    """The query that the adapter asks Prometheus for the pods of a namespace."""
    series = re.match(r"\w+", rule["seriesQuery"])
    assert series
    values = {"<<.Series>>": series[0], "<<.LabelMatchers>>": 'namespace="a",pod=~"x|y"', "<<.GroupBy>>": "pod"}
    return filled(rule["metricsQuery"], values)


def filled(text: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        text = text.replace(name, value)
    return text


def expressions() -> Iterator[str]:
    """Every expression in PromQL that is in deploy/."""
    yield from (rule["expr"] for rule in alerts())
    yield from (rule["seriesQuery"] for rule in adapter_rules())
    yield from (adapter_query(rule) for rule in adapter_rules())
    for panel in DASHBOARD["panels"]:
        yield from (filled(target["expr"], TIMES) for target in panel["targets"])


def parts(expression: str) -> list[Any]:
    """The nodes of an expression, as Prometheus would read it."""
    promql = pytest.importorskip("promql_parser", reason="reads PromQL: pip install '.[dev]'")
    found: list[Any] = []
    promql.walk(promql.parse(expression), found.append)
    return found


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, set[str]]]:
    """Of each series of a server with a cascade and a shadow: its labels, and the values of each."""
    home = tmp_path_factory.mktemp("monitored")
    bundle = with_reference(make_tiny_bundle(home / "artifacts" / "tiny" / "bundle"))
    add_cascade(bundle, threshold=0.9)
    shadow = make_tiny_bundle(home / "shadow", name="shadow")
    server = Server(home, {"POCKETBERT_WORKERS": "1", "POCKETBERT_SHADOW": str(shadow)})
    try:
        first = server.ask("/metrics").text
        assert 'pocketbert_request_seconds_count{path="/classify"} 0.0' in first  # a rate sees the first request too
        for text in ("very good good good good", "good bad", " "):
            server.ask("/classify", {"text": text})
        # The client's time is over at once, so it is refused.
        refused = server.ask("/classify", {"text": "good"}, {"x-request-timeout-ms": "0"})
        assert refused.status_code == 429
        until(lambda: "pocketbert_shadow_texts_total{" in server.ask("/metrics").text)
        text = server.ask("/metrics").text
    finally:
        server.process.kill()
    found: dict[str, dict[str, set[str]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            values = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                values.setdefault(label, set()).add(value)
    return found


def test_every_metric_label_and_value_that_is_asked_for_exists(metrics: dict[str, dict[str, set[str]]]) -> None:
    asked = set()
    for expression in expressions():
        nodes = parts(expression)
        labels = SCRAPED.copy()
        for selector in (node for node in nodes if type(node).__name__ == "VectorSelector"):
            if selector.name == "up":
                continue
            asked.add(selector.name)
            assert selector.name in metrics, expression
            labels |= metrics[selector.name].keys()
            for matcher in selector.matchers.matchers:
                values = metrics[selector.name].get(matcher.name)
                assert values or matcher.name in SCRAPED, f"{matcher.name}: {expression}"
                if values and str(matcher.op) == "MatchOp.Equal":
                    assert matcher.value in values, expression
                if values and matcher.name == "path" and str(matcher.op) == "MatchOp.Re":
                    assert set(matcher.value.split("|")) == values & {"/classify", "/explain"}, expression
        for group in (node.modifier for node in nodes if type(node).__name__ == "AggregateExpr"):
            assert set(group.labels if group else ()) <= labels, expression
    assert len(asked) >= 8


def test_the_autoscaler_asks_for_metrics_that_the_adapter_makes() -> None:
    asked = {one["pods"]["metric"]["name"] for one in resource("HorizontalPodAutoscaler")["spec"]["metrics"]}
    assert asked == {rule["name"]["as"] for rule in adapter_rules()}
    relabelled = read(DEPLOY / "prometheus" / "prometheus.yml")["scrape_configs"][0]["relabel_configs"]
    assert {one.get("target_label") for one in relabelled} >= {"namespace", "pod"}
    assert all(rule["resources"]["overrides"].keys() == {"namespace", "pod"} for rule in adapter_rules())


def test_the_alerts_find_what_they_are_for_and_are_silent_otherwise() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed; it is in Debian's package prometheus")
    tests = Path(__file__).with_name("alerts_test.yml")
    for command in (["check", "rules", ALERTS], ["test", "rules", tests]):
        done = subprocess.run([promtool, *command], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested_and_says_what_to_do() -> None:
    tests = read(Path(__file__).with_name("alerts_test.yml"))["tests"]
    fired = {one["alertname"] for test in tests for one in test["alert_rule_test"] if one["exp_alerts"]}
    silent = {one["alertname"] for test in tests for one in test["alert_rule_test"] if not one["exp_alerts"]}
    assert fired == silent == {rule["alert"] for rule in alerts()}
    for rule in alerts():
        assert rule["annotations"].keys() == {"summary", "description"}
        assert rule["labels"]["severity"] in ("critical", "warning", "info")


def test_the_panels_of_the_dashboard_have_queries_and_a_place_of_their_own() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    assert all(panel["targets"] for panel in panels)
    assert all(target["expr"] for panel in panels for target in panel["targets"])
    places = [panel["gridPos"] for panel in panels]
    assert all(one["x"] >= 0 and one["x"] + one["w"] <= 24 for one in places)
    for one, other in combinations(places, 2):
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert apart, (one, other)


def test_the_dashboard_uses_only_variables_that_it_has() -> None:
    text = json.dumps(DASHBOARD["panels"])
    used = {first or second for first, second in re.findall(r"\$\{(\w+)\}|\$(\w+)", text)}
    has = {one["name"] for one in DASHBOARD["templating"]["list"]}
    assert used - {"__rate_interval"} == has
