"""The preflight: what is wrong with a teacher, a student or an export is one line before anything is trained."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BartConfig, BartForSequenceClassification

from compress.pipeline.per_domain import compress_per_domain
from compress.pipeline.preflight import Weights
from compress.pipeline.run import compress
from compress.pipeline.workspace import Workspace
from compress.recipe import Recipe, load_recipe
from compress.runtime.errors import UserError
from compress.students.transformer import copy_layers
from compress.teachers.checkpoint import usable_positions
from tests.compress.checking import check, refused, rewrite_json
from tests.tiny_task import sentences, write_tsv
from tests.tiny_teachers import tiny_teacher_of

TRANSFORMER = ["student.kind=transformer", "student.layers=1"]


def rewrite(teacher: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    """Write other weights in place of the teacher's."""
    save_file(
        change(load_file(teacher / "model.safetensors")), teacher / "model.safetensors", metadata={"format": "pt"}
    )


def without(teacher: Path, pattern: str) -> None:
    for file in teacher.iterdir():
        if re.search(pattern, file.name):
            file.unlink()


def cut(teacher: Path) -> None:
    file = teacher / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-5000])


def with_code_of_its_own(teacher: Path) -> None:
    config = json.loads((teacher / "config.json").read_text(encoding="utf-8"))
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Own"}}
    (teacher / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (teacher / "own.py").write_text("raise SystemExit('was run')", encoding="utf-8")


def as_adapter(teacher: Path) -> None:
    (teacher / "model.safetensors").rename(teacher / "adapter_model.safetensors")
    (teacher / "adapter_config.json").write_text("{}", encoding="utf-8")


def add_token(teacher: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(teacher)
    tokenizer.add_tokens(["[ORDER]"])
    tokenizer.save_pretrained(teacher)


def in_a_folder(teacher: Path) -> None:
    """As older versions of sentence-transformers save a model."""
    files = list(teacher.iterdir())
    (teacher / "0_Transformer").mkdir()
    for file in files:
        file.rename(teacher / "0_Transformer" / file.name)


def not_a_number(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    weights["bert.encoder.layer.0.output.dense.weight"][0] = float("nan")
    return weights


def drop_pad_token(teacher: Path) -> None:
    file = teacher / "tokenizer_config.json"
    values = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(values | {"pad_token": None}), encoding="utf-8")


def as_bart(teacher: Path) -> None:
    config = BartConfig(vocab_size=200, d_model=8, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=8)
    config.encoder_attention_heads = config.decoder_attention_heads = 2
    BartForSequenceClassification(config).save_pretrained(teacher)


WRAPPED = r"'{}bert\.embeddings.*instead: .*model\.module of DataParallel"
BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "DataParallel": (
        lambda teacher: rewrite(teacher, lambda weights: {f"module.{name}": value for name, value in weights.items()}),
        WRAPPED.format(r"module\."),
    ),
    "torch.compile": (
        lambda teacher: rewrite(teacher, lambda weights: {f"_orig_mod.{name}": v for name, v in weights.items()}),
        WRAPPED.format(r"_orig_mod\."),
    ),
    "a layer is missing": (
        lambda teacher: rewrite(teacher, lambda weights: {n: v for n, v in weights.items() if "layer.1" not in n}),
        r"16 of the encoder's 37 weights are missing.*bert\.encoder\.layer\.1.*complete checkpoint",
    ),
    "another shape": (
        lambda teacher: rewrite_json(teacher / "config.json", hidden_size=24),
        r"weights are missing in .* or have another shape",
    ),
    "cut off": (cut, "weights of .* cannot be loaded .*damaged or cut off"),
    "not finite": (lambda teacher: rewrite(teacher, not_a_number), "its outputs are not finite"),
    "no configuration": (lambda teacher: without(teacher, r"^config"), "there is no config.json in"),
    "no JSON": (lambda teacher: (teacher / "config.json").write_text("{a"), "not a valid JSON file"),
    "unknown kind": (lambda teacher: rewrite_json(teacher / "config.json", model_type="x"), "configuration of .*`x`"),
    "no tokenizer": (
        lambda teacher: without(teacher, "token"),
        r"tokenizer of .* cannot be loaded \(there is none\); save it beside the model",
    ),
    "sentencepiece": (
        lambda teacher: (without(teacher, "^token"), (teacher / "spiece.model").write_bytes(b"x")),
        "tokenizer of .* cannot be loaded",
    ),
    "code of its own": (with_code_of_its_own, "the configuration of .* cannot be loaded"),
    "an adapter beside nothing": (
        lambda teacher: (as_adapter(teacher), without(teacher, "^config")),
        "no config.json in .*it is an adapter; merge it",
    ),
    "a folder of sentence-transformers": (in_a_folder, "there is one in its folder 0_Transformer: give that"),
    "weights of another framework": (
        lambda teacher: (teacher / "model.safetensors").rename(teacher / "tf_model.h5"),
        "there is no model.safetensors or pytorch_model.bin",
    ),
    "quantised": (
        lambda teacher: rewrite_json(teacher / "config.json", quantization_config={"quant_method": "gptq", "bits": 4}),
        "it is quantised; give the model that it was made from",
    ),
    "an adapter": (as_adapter, "it is an adapter; merge it"),
    "a token without embedding": (add_token, r"'\[ORDER\]' with number 100, the model embeddings for 100 only.*resize"),
    "no pad token": (drop_pad_token, "has no pad token"),
    "an encoder with a decoder": (as_bart, "encoder with a decoder; give an encoder"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_teacher_is_one_line(task: Callable[..., Recipe], tmp_path: Path, fault: str) -> None:
    damage, message = BROKEN[fault]
    damage(tmp_path / "teacher")
    line = refused(task())
    assert line.startswith("teacher.model: ")
    assert re.search(message, line, re.DOTALL), line
    assert len(line) < 500


def test_a_checkpoint_without_pooler_or_head_is_fine_and_other_weights_are_named(
    task: Callable[..., Recipe], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite(
        tmp_path / "teacher",
        lambda weights: {
            **{name: value for name, value in weights.items() if "pooler" not in name and "classifier" not in name},
            "cls.predictions.bias": torch.zeros(3),
        },
    )
    check(task())
    assert "1 weights of the checkpoint are not used (cls.predictions)" in capsys.readouterr().err


def test_a_head_that_was_never_trained_is_not_taken_for_a_fine_tuned_one(
    task: Callable[..., Recipe], tmp_path: Path
) -> None:
    names = {"id2label": {0: "negative", 1: "positive"}, "label2id": {"negative": 0, "positive": 1}}
    rewrite_json(tmp_path / "teacher" / "config.json", **names)
    check(task("teacher.fine_tuned=true"))
    rewrite(tmp_path / "teacher", lambda weights: {n: v for n, v in weights.items() if "classifier" not in n})
    assert "is not in the checkpoint (classifier.bias, classifier.weight)" in refused(task("teacher.fine_tuned=true"))


def test_positions_are_those_that_a_family_can_use(task: Callable[..., Recipe], tmp_path: Path) -> None:
    for family, positions in (("bert", 66), ("roberta", 64), ("mpnet", 64), ("deberta-v2", 66)):
        directory = tiny_teacher_of(family, tmp_path / family)
        assert usable_positions(AutoModelForSequenceClassification.from_pretrained(directory)) == positions
    settings = (f"teacher.model={tmp_path / 'roberta'}", "augmentation.method=spans")
    check(task(*settings, "data.max_length=64"))
    assert "takes 64 tokens at most" in refused(task(*settings, "data.max_length=65"))


def test_a_student_with_fewer_positions_is_refused(task: Callable[..., Recipe], tmp_path: Path) -> None:
    small = tiny_teacher_of("bert", tmp_path / "small", max_position_embeddings=16)
    assert "takes 16 tokens at most" in refused(task("student.kind=transformer", f"student.init={small}"))


@pytest.mark.parametrize(
    ("family", "settings", "message"),
    [
        ("roberta", ["compress.preset=tinybert", "student.layers=1"], "needs a WordPiece tokenizer"),
        ("roberta", ["compress.preset=l2a", "student.layers=1"], "needs a WordPiece tokenizer"),
        ("roberta", ["transfer.replaced=9"], "transfer.replaced needs a WordPiece tokenizer"),
        ("deberta-v2", ["compress.preset=minilm", "student.layers=1"], "no attention projections with a known name"),
        ("albert", TRANSFORMER, "no list of layers to copy from"),
        ("albert", ["teacher.representation=mean"], "no head on the mean of the states"),
        ("distilbert", ["augmentation.method=cbert"], "cbert needs an encoder with token types"),
        ("bert", ["student.architecture=none.json"], "no such file"),
        ("bert", ["teacher.revision=v1"], "only a model of the hub has revisions"),
    ],
)
def test_what_does_not_go_together_is_refused_before_the_teacher_is_trained(
    task: Callable[..., Recipe], tmp_path: Path, family: str, settings: list[str], message: str
) -> None:
    tiny_teacher_of(family, tmp_path / "teacher")
    with pytest.raises(UserError, match=message):
        compress(task(*settings), Workspace(tmp_path / "artifacts"))
    assert not (tmp_path / "artifacts" / "teacher").exists()


@pytest.mark.parametrize(
    "settings",
    [
        ["student.width=16"],
        ["student.width=16", "compress.quantization_epochs=1"],
        ["compress.preset=bilstm", "student.width=16"],
        [*TRANSFORMER, "compress.quantization_epochs=1"],
        ["compress.preset=tinybert", "student.layers=1"],
        ["compress.preset=pkd", "student.layers=2"],
        ["compress.preset=minilm", "student.layers=1", "student.init=random", "student.width=8", "student.heads=2"],
        ["compress.preset=none", "student.layers=1"],
    ],
)
def test_students_of_all_kinds_pass(task: Callable[..., Recipe], settings: list[str]) -> None:
    sizes = check(task(*settings))
    assert min(sizes.teacher, sizes.student) > 5_000  # bytes


def test_trouble_with_the_export_is_met_before_the_training(task: Callable[..., Recipe], tmp_path: Path) -> None:
    def no_export(student: Any, texts: Any, *, pair: bool, max_length: int) -> None:
        raise RuntimeError("Unsupported: ONNX export of operator aten::special")

    with pytest.raises(UserError, match=r"student\.kind: a student of this kind cannot be exported .*aten::special"):
        compress(task("student.width=16"), Workspace(tmp_path / "artifacts"), trial_export=no_export)
    assert not (tmp_path / "artifacts" / "teacher").exists()


def test_too_little_room_on_the_disk_is_said_before_the_training(
    task: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = Weights(teacher=1000, student=10)
    assert (
        sizes.bytes_to_train(teacher_is_made=False) == 5000
    )  # the result, the best epoch's, a checkpoint with two moments
    assert sizes.bytes_to_train(teacher_is_made=True) == 50
    monkeypatch.setattr("compress.pipeline.preflight.WRITTEN", 10**9)
    with pytest.raises(UserError, match="MB are free on this disk"):
        compress(task("student.width=16"), Workspace(tmp_path / "artifacts"))


def test_the_random_numbers_of_a_run_do_not_depend_on_the_preflight(task: Callable[..., Recipe]) -> None:
    torch.manual_seed(3)
    check(task("student.width=16"))
    after = torch.rand(3)
    torch.manual_seed(3)
    assert torch.equal(after, torch.rand(3))


def test_all_domains_are_checked_before_the_first_student_is_trained(
    task: Callable[..., Recipe], tmp_path: Path
) -> None:
    rows = [
        (text, label if i % 4 < 2 else "positive", "ab"[i % 4 // 2]) for i, (text, label) in enumerate(sentences(40))
    ]
    for name in ("train", "dev"):
        write_tsv(tmp_path / f"{name}.tsv", rows, ("text", "label", "domain"))
    recipe = task("data.domain=domain", "domains.students=per-domain", "student.width=16")
    with pytest.raises(UserError, match="all training texts of b have the label 'positive'"):
        compress_per_domain(recipe, Workspace(tmp_path / "artifacts"))
    assert not list((tmp_path / "artifacts").rglob("teacher"))


def test_texts_in_another_script_than_the_tokenizers_are_said(
    task: Callable[..., Recipe], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        (f"这个台灯{'明亮' if label == 'positive' else '昏暗'}{i}", label) for i, (_, label) in enumerate(sentences(40))
    ]
    write_tsv(tmp_path / "train.tsv", rows)
    check(task("student.width=16"))
    assert "are unknown to the tokenizer" in capsys.readouterr().err


def test_the_first_layer_of_a_modernbert_is_copied_too(tmp_path: Path) -> None:
    directory = tiny_teacher_of("modernbert", tmp_path / "teacher", num_hidden_layers=4)
    source = AutoModelForSequenceClassification.from_pretrained(directory)
    config = source.config.__class__.from_pretrained(directory, num_hidden_layers=2)
    for layers in ([2, 4], [1, 3]):
        student = AutoModelForSequenceClassification.from_config(config)
        copy_layers(source, student, layers)
        assert torch.equal(student.model.layers[1].mlp.Wi.weight, source.model.layers[layers[1] - 1].mlp.Wi.weight)
        assert torch.equal(
            student.model.layers[0].attn.Wqkv.weight, source.model.layers[layers[0] - 1].attn.Wqkv.weight
        )


def test_a_revision_is_of_the_hub() -> None:
    with pytest.raises(UserError, match="revision: an embedded model has none"):
        load_recipe(Path("recipes/sentiment.toml"), ["teacher.revision=v1"])
    with pytest.raises(UserError, match="revision: only a dataset of the hub has one"):
        load_recipe(Path("recipes/sentiment.toml"), ["data.revision=v1"])
