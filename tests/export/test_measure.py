from collections import Counter
from pathlib import Path

import onnx
import onnxruntime
import torch

from compress.data.corpus import load_corpus
from compress.recipe import load_recipe
from compress.students import CnnStudent, CnnStudentConfig
from compress.students.genotype import Edge, Genotype, random_genotype, residual_genotype
from export.measure import int8_file, int8_latency
from tests.tiny_task import tiny_recipe


def test_a_student_is_timed_before_it_is_trained(tmp_path: Path) -> None:
    recipe = load_recipe(tiny_recipe(tmp_path), ["bench.texts=20"])
    tokenizer = next(tmp_path.rglob("tokenizer.json"))
    identity = Genotype(cells=1, nodes=((Edge(source=0, operation="identity"),),) * 3)
    corpus, times = load_corpus(recipe.target), []
    for genotype in (identity, residual_genotype(8)):
        torch.manual_seed(0)
        config = CnnStudentConfig(vocab_size=2000, width=512, genotype=genotype.model_dump(mode="json"), num_labels=2)
        times.append(int8_latency(CnnStudent(config), tokenizer=tokenizer, recipe=recipe, corpus=corpus))
    assert 0 < times[0] < times[1]  # 24 convolutions of half a million products a token, or none


def test_what_is_timed_computes_in_integers_as_a_trained_student_does(tmp_path: Path) -> None:
    recipe = load_recipe(tiny_recipe(tmp_path), ["bench.texts=20"])
    tokenizer = next(tmp_path.rglob("tokenizer.json"))
    for seed in range(3):
        genotype = random_genotype(2, seed).model_dump(mode="json")
        student = CnnStudent(CnnStudentConfig(vocab_size=2000, width=16, members=2, genotype=genotype, num_labels=2))
        file, *_ = int8_file(student, tmp_path, tokenizer=tokenizer, recipe=recipe, corpus=load_corpus(recipe.target))
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
        onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        kinds = Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node)
        convolutions = sum(
            edge["operation"].startswith(("conv", "dilated")) for node in genotype["nodes"] for edge in node
        )
        assert kinds["QLinearConv"] == 2 * convolutions > 0  # two cells
        assert kinds["Conv"] == kinds["FusedConv"] == 0
