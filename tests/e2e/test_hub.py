"""Models and data sets of the hub: the real clients, in processes of their own, load them from a small hub over a socket."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch

from export.bundle import Bundle
from export.session import BundleSession
from tests.hub_server import Hub, files_of, running
from tests.tiny_task import ROOT, sentences, tiny_teacher
from tests.waiting import PATIENCE

TOKEN, STRANGER = "hf_reader", "hf_stranger"
NOWHERE = "http://127.0.0.1:9"  # nobody listens on this port
CARD = b"""---
configs:
- {config_name: all, data_files: [{split: train, path: all/train.csv}, {split: validation, path: all/dev.csv}]}
- {config_name: few, data_files: [{split: train, path: few.csv}]}
---
"""
RECIPE = """name = "hubbed"
[data]
hub = "lab/reviews"
hub_config = "all"
max_length = 32
[teacher]
model = "lab/bert"
"""
STUDENT = """epochs = 6
learning_rate = 3e-3
[student]
kind = "transformer"
init = "lab/bert"
[compress]
preset = "logits"
epochs = 6
learning_rate = 3e-3
batch_size = 16
[export]
below_linear = "warn"  # a linear model is perfect here
calibration_texts = 64
"""
# What the processes have in common: each prints one JSON value, or what a `UserError` says.
CLIENT = """
import json, sys
from pathlib import Path
from compress.data.corpus import load_corpus
from compress.pipeline.stages import stage_keys
from compress.recipe import load_recipe
from compress.runtime.errors import UserError

def refusal(act):
    try:
        act()
    except UserError as error:
        assert "torch" not in sys.modules, "it took too long to find out"
        return str(error)

def keys(*settings):
    return stage_keys(load_recipe("task.toml", settings))

def rows(*settings):
    return {name: len(split) for name, split in load_corpus(load_recipe("task.toml", settings).target).splits.items()}

def teacher(artifacts, *settings):
    from compress.pipeline.run import compress
    from compress.pipeline.workspace import Workspace
    return str(compress(load_recipe("task.toml", ["teacher.fine_tuned=true", *settings]), Workspace(Path(artifacts)), until="teacher"))

"""


@dataclass
class Desk:
    """A folder with a recipe, a cache of its own, and a hub that its processes ask."""

    hub: Hub
    folder: Path

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """A command in an environment that has nothing of this process's but what it needs to start."""
        kept = {name: os.environ[name] for name in ("PATH", "POCKETBERT_CACHE") if name in os.environ}
        own = {"HOME": str(self.folder), "HF_HOME": str(self.folder / "hf"), "HF_ENDPOINT": self.hub.url}
        own |= dict.fromkeys(("HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT"), str(PATIENCE))  # else ten seconds
        variables = kept | own | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | environment
        return subprocess.run(command, capture_output=True, text=True, env=variables, cwd=self.folder)

    def value(self, code: str, **environment: str) -> Any:
        """The value of the last expression of some code, evaluated in a process of its own."""
        *before, last = code.strip().split("\n")
        script = CLIENT + "\n".join([*before, f"print(json.dumps(({last})))"])
        done = self.run(sys.executable, "-c", script, **environment)
        assert done.returncode == 0, done.stderr
        assert "Generating" not in done.stderr  # a bar of `datasets`, which is for terminals
        return json.loads(done.stdout.strip().split("\n")[-1])

    def refusals(self, *settings: str, **environment: str) -> list[str]:
        """What each setting is refused with. It takes one process, for they know after a request."""
        lines = self.value(f"[refusal(lambda: (keys(one), rows(one))) for one in {settings!r}]", **environment)
        assert all(line and "\n" not in line for line in lines), lines
        return lines


def table(count: int, seed: int = 0) -> bytes:
    rows = "".join(f"{text},{label}\n" for text, label in sentences(count, seed))
    return f"text,label\n{rows}".encode()


def reviews(count: int) -> dict[str, bytes]:
    return {"README.md": CARD, "all/train.csv": table(count), "all/dev.csv": table(60, seed=1), "few.csv": table(80)}


def with_other_weights(bert: dict[str, bytes]) -> dict[str, bytes]:
    weights = safetensors.torch.load(bert["model.safetensors"])
    weights["classifier.weight"] = weights["classifier.weight"] + 1
    return bert | {"model.safetensors": safetensors.torch.save(weights, {"format": "pt"})}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """Models and data sets of the organisation `lab`: public, private and gated; some have a branch `v2` besides main."""
    bert = files_of(tiny_teacher(tmp_path_factory.mktemp("hub") / "bert"))
    config = json.loads(bert["config.json"])
    labels = {"id2label": {"0": "negative", "1": "positive"}, "label2id": {"negative": 0, "positive": 1}}
    bert["config.json"] = json.dumps(config | labels).encode()
    hub = Hub(tokens={TOKEN, STRANGER})
    hub.add("models", "lab/bert", bert).commit(with_other_weights(bert), "v2")
    hub.add("datasets", "lab/reviews", reviews(300)).commit(reviews(200), "v2")
    hub.add("datasets", "lab/plain", {"train.csv": table(120), "validation.csv": table(60, seed=1)})
    for kind, files in (("models", bert), ("datasets", reviews(300))):
        hub.add(kind, "lab/private", files, readers={TOKEN})
        hub.add(kind, "lab/gated", files, readers={TOKEN}, gated=True)
    with running(hub):
        yield hub


@pytest.fixture
def desk(hub: Hub, tmp_path: Path) -> Desk:
    (tmp_path / "task.toml").write_text(RECIPE)
    return Desk(hub, tmp_path)


def test_from_a_hub_id_to_a_bundle_and_again_without_a_network(hub: Hub, desk: Desk) -> None:
    (desk.folder / "task.toml").write_text(RECIPE + STUDENT)
    private = """
from compress.recipe import Recipe
import pocketbert
recipe = load_recipe("task.toml", ["teacher.model=lab/private", "data.hub=lab/gated"])
pocketbert.compress(recipe)
pocketbert.export(recipe)
json.loads(Path("artifacts/hubbed/teacher/card.json").read_text())["commit"]
"""
    assert desk.value(private, HF_TOKEN=TOKEN) == hub.repositories["models", "lab/private"].refs["main"]
    bundle = Bundle(desk.folder / "artifacts" / "hubbed" / "bundle")
    texts, labels = zip(*sentences(60, seed=9), strict=True)
    found = [bundle.manifest.labels[row] for row in BundleSession(bundle).predict(list(texts)).argmax(axis=1)]
    assert sum(a == b for a, b in zip(found, labels, strict=True)) >= 57
    hub.requests.clear()
    offline = {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN}
    again = private.replace("pocketbert.compress(recipe)", 'pocketbert.compress(recipe, artifacts="again")')
    assert desk.value(again.replace("pocketbert.export(recipe)\n", ""), **offline)
    assert hub.requests == []
    one, other = (
        (desk.folder / f"{root}/hubbed/student/model.safetensors").read_bytes() for root in ("artifacts", "again")
    )
    assert one == other


def test_revisions_are_other_weights_and_other_rows_also_from_the_cache(hub: Hub, desk: Desk) -> None:
    bert, rows = hub.repositories["models", "lab/bert"], hub.repositories["datasets", "lab/reviews"]
    commits = [bert.refs["main"], bert.refs["v2"]]
    code = f"""
made = [teacher(f"made-{{i}}", "teacher.revision=" + name) for i, name in enumerate(["main", "v2", {commits[0]!r}])]
made, [rows("data.revision=" + name) for name in ("main", "v2", {rows.refs["main"]!r})], keys(), keys("teacher.revision=v2"), keys("data.revision=v2")
"""
    made, counts, *keys = desk.value(code)
    assert made[0] != made[1]
    weights = [(desk.folder / path / "model.safetensors").read_bytes() for path in made]
    loaded = [safetensors.torch.load(content)["classifier.weight"] for content in weights]
    own = [safetensors.torch.load(bert.commits[commit]["model.safetensors"])["classifier.weight"] for commit in commits]
    assert [one.tolist() for one in loaded] == [own[0].tolist(), own[1].tolist(), own[0].tolist()]
    assert [count["train"] for count in counts] == [300, 200, 300]
    assert keys[0]["teacher"] != keys[1]["teacher"]
    assert keys[0]["linear"] == keys[1]["linear"]  # which has nothing to do with the teacher
    assert not set(keys[0].values()) & set(keys[2].values())
    for environment in ({"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": NOWHERE}):
        cached = desk.value(code.splitlines()[-1].replace("made, ", "", 1), **environment)
        assert cached == [counts, *keys]
    bert.commit(bert.commits[commits[1]], "main")
    try:  # a branch that has moved
        assert desk.value("keys()")["teacher"] != keys[0]["teacher"]
        assert desk.value("keys()", HF_HUB_OFFLINE="1")["teacher"] != keys[0]["teacher"]
    finally:
        bert.refs["main"] = commits[0]


def test_a_data_set_without_a_card_and_one_with_configurations(desk: Desk) -> None:
    plain = ["data.hub=lab/plain", "data.hub_config=default"]
    code = f"rows(*{plain!r}), rows('data.hub_config=few')"
    counts = desk.value(code)
    assert counts[0]["train"] == 120
    assert sum(counts[1].values()) == 80  # dev and test are carved out of it
    assert desk.value(code, HF_HUB_OFFLINE="1") == counts
    wrong = desk.value("refusal(lambda: rows('data.hub_config=many'))")
    assert wrong == "data.hub_config: lab/reviews has the configurations ['all', 'few']; give one"
    (desk.folder / "task.toml").write_text(RECIPE.replace('hub_config = "all"\n', ""))
    assert desk.value("refusal(lambda: rows())") == wrong


def test_what_the_hub_refuses_is_one_line_with_the_cure(desk: Desk) -> None:
    give_token = "HF_TOKEN=hf_… in the environment, or `hf auth login`"
    asked = ("teacher.model=lab/private", "data.hub=lab/private", "teacher.model=lab/none", "teacher.model=lab/gated")
    private, private_data, missing, gated = desk.refusals(*asked)
    assert private.startswith("teacher.model: lab/private: ")
    assert private_data.startswith("data.hub: lab/private: ")
    assert missing == private.replace("private:", "none:", 1)  # the hub does not say which of both it is
    assert all(line.endswith(give_token) for line in (private, private_data, missing, gated))
    assert f"is gated; ask for access on {desk.hub.url}/lab/gated" in gated
    private, missing_data, gated = desk.refusals(asked[0], "data.hub=lab/none", asked[3], HF_TOKEN=STRANGER)
    assert "the hub has no such model, or your token may not read it (404)" in private
    assert f"{desk.hub.url}/datasets/lab/none should be its page" in missing_data
    assert "is gated" in gated
    (wrong,) = desk.refusals(asked[0], HF_TOKEN="hf_wrong")
    assert "refuses your token (401)" in wrong
    revision, revision_of_data, no_id = desk.refusals("teacher.revision=v9", "data.revision=v9", "teacher.model=a/b/c")
    assert revision.startswith(f"teacher.model: lab/bert: has no revision 'v9'; {desk.hub.url}/lab/bert/tree/main")
    assert revision_of_data.startswith("data.hub: lab/reviews: has no revision 'v9'; ")
    assert "no such directory, and no id of the hub" in no_id


def test_no_network_and_nothing_in_the_cache_is_one_line(desk: Desk) -> None:
    asked = ("teacher.revision=v2", "data.revision=v2")
    for line in desk.refusals(*asked, HF_HUB_OFFLINE="1"):
        assert "HF_HUB_OFFLINE is set" in line
        assert "unset it for one run" in line
    for line in desk.refusals(*asked, HF_ENDPOINT=NOWHERE):
        assert (
            f"not in the cache, and {NOWHERE} cannot be reached (Connect" in line
        )  # …ionError or Error, by the client's version
        assert "check the network, HTTPS_PROXY and HF_ENDPOINT" in line
    done = desk.run(sys.executable, "-m", "pocketbert", "compress", "task.toml", HF_ENDPOINT=NOWHERE)
    assert done.returncode == 2
    assert done.stderr.startswith("error: data.hub: lab/reviews: ")
    assert done.stderr.count("\n") == 1
