from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from compress.search.space import NODES, OPERATIONS
from compress.students import CnnStudent, CnnStudentConfig
from compress.students.operations import build_operation
from tests.tiny_task import GENOTYPE


def make_student(pair: bool = False) -> CnnStudent:
    torch.manual_seed(0)
    config = CnnStudentConfig(
        vocab_size=50, width=16, genotype=GENOTYPE.model_dump(mode="json"), pair=pair, num_labels=3
    )
    student = CnnStudent(config)
    student.train()
    with torch.no_grad():  # give batch normalisation statistics that matter
        for _ in range(5):
            student(torch.randint(0, 50, (8, 12)), token_type_ids=torch.ones(8, 12).long())
    return student.eval()


def masked(x: torch.Tensor, lengths: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    mask = (torch.arange(x.shape[2])[None, :] < torch.tensor(lengths)[:, None]).float()[:, None]
    return x * mask, mask


@pytest.mark.parametrize("name", OPERATIONS)
def test_padding_never_reaches_a_real_token(name: str) -> None:
    torch.manual_seed(1)
    operation = build_operation(name, 8).eval()  # type: ignore[arg-type]
    x, mask = masked(torch.randn(1, 8, 6), [6])
    padded, padded_mask = masked(torch.cat([x, torch.randn(1, 8, 5)], dim=2), [6])
    torch.testing.assert_close(operation(padded, padded_mask)[:, :, :6], operation(x, mask))


def test_average_pooling_counts_real_tokens_only() -> None:
    x, mask = masked(torch.tensor([[[3.0, 6.0, 9.0, 9.0]]]), [3])
    pooled = build_operation("avg_pool3", 1)(x, mask)
    assert pooled[0, 0, :3].tolist() == [4.5, 6.0, 7.5]


@pytest.mark.parametrize("pair", [False, True])
def test_a_text_gets_the_same_logits_alone_and_padded_in_a_batch(pair: bool) -> None:
    student = make_student(pair)
    ids, types = torch.randint(1, 50, (1, 7)), torch.tensor([[0, 0, 0, 1, 1, 1, 1]])
    other = torch.randint(1, 50, (1, 15))
    batch_ids = torch.cat([torch.cat([ids, torch.zeros(1, 8).long()], dim=1), other])
    mask = torch.ones(2, 15).long()
    mask[0, 7:] = 0
    batch_types = torch.zeros(2, 15).long()
    batch_types[0, :7] = types
    alone = student(ids, token_type_ids=types).logits
    together = student(batch_ids, mask, batch_types).logits[:1]
    torch.testing.assert_close(alone, together, atol=1e-6, rtol=1e-5)


def test_a_pair_student_tells_its_texts_apart_and_needs_the_types() -> None:
    student = make_student(pair=True)
    ids = torch.randint(1, 50, (1, 8))
    types = torch.tensor([[0, 0, 0, 0, 1, 1, 1, 1]])
    assert not torch.allclose(student(ids, token_type_ids=types).logits, student(ids, token_type_ids=1 - types).logits)
    with pytest.raises(ValueError, match="token_type_ids"):
        student(ids)


def test_saves_and_loads_like_any_model(tmp_path: Path) -> None:
    student = make_student()
    student.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    ids = torch.randint(0, 50, (3, 9))
    assert isinstance(loaded, CnnStudent)
    assert torch.equal(loaded(ids).logits, student(ids).logits)
    assert torch.isclose(
        loaded(ids, labels=torch.tensor([0, 1, 2])).loss,
        torch.nn.functional.cross_entropy(student(ids).logits, torch.tensor([0, 1, 2])),
    )


def test_folding_batch_normalisation_changes_no_logit() -> None:
    student = make_student()
    ids = torch.randint(0, 50, (3, 9))
    before = student(ids).logits
    student.fold()
    assert not any(isinstance(module, torch.nn.BatchNorm1d) for module in student.modules())
    torch.testing.assert_close(student(ids).logits, before, atol=1e-5, rtol=1e-4)


def test_one_readout_a_cell_and_the_last_is_the_answer() -> None:
    student = make_student()
    ids = torch.randint(0, 50, (3, 9))
    per_cell = student.logits_per_cell(ids, torch.ones_like(ids))
    assert len(per_cell) == GENOTYPE.cells
    assert torch.equal(per_cell[-1], student(ids).logits)
    assert len(GENOTYPE.nodes) == NODES
