"""The manifests of deploy/kubernetes: Kubernetes takes them, they fit together, and they fit the service."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from serve.guard import BENTOML_PATHS
from serve.settings import Settings
from tests.deploy.manifests import KUBERNETES, read, resource

OLDEST, NEWEST = "1.31", "1.37"  # of Kubernetes
NAMES = [path.name for path in sorted(KUBERNETES.glob("*.yaml")) if path.name != "kustomization.yaml"]
UNITS = {"Mi": 2**20, "Gi": 2**30}


def check(manifest: dict[str, Any], version: str) -> None:
    """Check a manifest by the schema of a version of Kubernetes; unknown fields are mistakes."""
    schemas = pytest.importorskip("kubernetes_validate", reason="the schemas of Kubernetes: pip install '.[dev]'")
    schemas.validate(manifest, version, strict=True)


def pod() -> dict[str, Any]:
    return resource("Deployment")["spec"]["template"]["spec"]


def container() -> dict[str, Any]:
    [one] = pod()["containers"]
    return one


def settings() -> dict[str, str]:
    """The environment of the server, as far as it is written there."""
    return {one["name"]: one["value"] for one in container()["env"] if "value" in one}


def bytes_of(quantity: str) -> int:
    return int(quantity[:-2]) * UNITS[quantity[-2:]]


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("name", NAMES)
def test_kubernetes_knows_every_field(name: str, version: str) -> None:
    check(read(KUBERNETES / name), version)


@pytest.mark.parametrize("mistake", ["unknown field", "wrong type"])
def test_a_field_that_kubernetes_does_not_have_is_found(mistake: str) -> None:
    manifest = copy.deepcopy(resource("Deployment"))
    spec = manifest["spec"]["template"]["spec"]
    if mistake == "unknown field":
        spec["containers"][0]["readynessProbe"] = {}
    else:
        spec["terminationGracePeriodSeconds"] = "a while"
    check(resource("Deployment"), NEWEST)
    with pytest.raises(Exception, match=r"readynessProbe|a while"):
        check(manifest, NEWEST)


def test_the_kustomization_has_all_manifests_and_sets_their_image() -> None:
    kustomization = read(KUBERNETES / "kustomization.yaml")
    assert sorted(kustomization["resources"]) == NAMES
    [image] = kustomization["images"]
    assert {one["image"] for one in pod()["containers"] + pod()["initContainers"]} == {image["name"]}
    assert image["newTag"] != "latest"
    assert kustomization["namespace"] == resource("Namespace")["metadata"]["name"]


def test_every_selector_finds_the_pods() -> None:
    template = resource("Deployment")["spec"]["template"]
    selectors = [
        resource("Deployment")["spec"]["selector"]["matchLabels"],
        resource("Service")["spec"]["selector"],
        resource("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        resource("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        *(one["labelSelector"]["matchLabels"] for one in template["spec"]["topologySpreadConstraints"]),
    ]
    assert [one for one in selectors if one != template["metadata"]["labels"]] == []
    target = resource("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", resource("Deployment")["metadata"]["name"])
    assert "replicas" not in resource("Deployment")["spec"]  # each `kubectl apply` would undo the autoscaler


def test_ports_go_to_the_port_of_the_server() -> None:
    [port] = container()["ports"]
    assert port["containerPort"] == 3000
    assert resource("Service")["spec"]["ports"][0]["targetPort"] == port["name"]
    assert resource("NetworkPolicy")["spec"]["ingress"][0]["ports"][0]["port"] == port["name"]
    probes = [container()[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")]
    assert [one["port"] for one in probes] == [port["name"]] * 3
    assert [one["path"] for one in probes] == ["/readyz", "/readyz", "/livez"]
    assert not {"/readyz", "/livez"} & BENTOML_PATHS  # the probes ask our own layer, also while a request runs


def test_the_environment_is_valid_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {f"POCKETBERT_{field.upper()}" for field in Settings.model_fields}
    assert {one["name"] for one in container()["env"]} <= known
    for name, value in settings().items():
        monkeypatch.setenv(name, value)
    read_back = Settings.from_environment()
    assert read_back.drain_seconds == int(settings()["POCKETBERT_DRAIN_SECONDS"])
    assert read_back.workers == int(container()["resources"]["requests"]["cpu"])


def test_a_pod_that_ends_has_time_for_its_drain_and_for_what_it_has_taken() -> None:
    drain = int(settings()["POCKETBERT_DRAIN_SECONDS"])
    probe = container()["readinessProbe"]
    assert drain > probe["periodSeconds"] * probe["failureThreshold"]  # it is out of the Service before it stops
    assert pod()["terminationGracePeriodSeconds"] >= drain + 30  # circus gives workers 30 seconds


def test_no_pod_is_stopped_before_a_new_one_answers() -> None:
    assert resource("Deployment")["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert resource("HorizontalPodAutoscaler")["spec"]["minReplicas"] >= 2
    assert resource("PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


def test_pods_may_do_what_the_restricted_profile_allows_and_write_to_tmp_only() -> None:
    labels = resource("Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert pod()["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "runAsGroup": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert "USER 10001:10001" in (KUBERNETES.parent / "Dockerfile").read_text(encoding="utf-8")
    assert pod()["automountServiceAccountToken"] is False
    for one in (*pod()["containers"], *pod()["initContainers"]):
        assert one["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert one["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]
    [volume] = pod()["volumes"]
    # What is written there counts as memory of the pod. A worker held 167 MB and the supervisor 92 MB (docs/image.md).
    limit = bytes_of(container()["resources"]["limits"]["memory"])
    assert limit > 1.4 * (167 + 92) * 1e6 + bytes_of(volume["emptyDir"]["sizeLimit"])
    assert resource("NetworkPolicy")["spec"]["egress"] == []
