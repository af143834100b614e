from pathlib import Path

import torch

from compress.data.corpus import load_corpus
from compress.recipe import load_recipe
from compress.students import CnnStudent, CnnStudentConfig
from compress.students.genotype import Edge, Genotype, residual_genotype
from export.measure import int8_latency
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
