"""Meta-KD's teacher: one for many domains, that knows what carries over between them (arXiv 2012.01266, §3.1)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from transformers import PreTrainedModel

from compress.data.batches import Batch, EncodedSplit, make_loader
from compress.objectives.expertise import (
    UNKNOWN_DOMAIN,
    expertise_weights,
    mean_state,
    prototype_scores,
    prototypes,
    weighted,
)
from compress.teachers.domain_representation import DomainRepresentation
from compress.training.accelerator import make_accelerator
from compress.training.evaluation import EVALUATION_BATCH, model_inputs, predict
from compress.training.optimizer import Loss

KNOWLEDGE = "domains.safetensors"  # beside the checkpoint
JUDGE_RATE = 10  # learning rate of the domain classifier, times the teacher's


class MetaLearner(nn.Module):
    """The classifier, and the domain classifier that it is to leave without a clue."""

    def __init__(self, teacher: PreTrainedModel, domains: int) -> None:
        super().__init__()
        self.teacher = teacher
        self.judge = DomainClassifier(domains, teacher.config.hidden_size)

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """For the optimiser: the domain classifier starts from nothing and has to keep up with the encoder."""
        return [
            {"params": list(self.teacher.parameters())},
            {"params": list(self.judge.parameters()), "lr": JUDGE_RATE * learning_rate},
        ]


class DomainClassifier(nn.Module):
    """Tells the domain of a text from its representation h."""

    def __init__(self, domains: int, width: int) -> None:
        super().__init__()
        self.representation = DomainRepresentation(domains, width)
        self.classifier = nn.Linear(width, domains)

    def forward(self, features: Tensor, domains: Tensor) -> Tensor:
        """Logits (B, K) of features (B, d) said to be of these domains, (B,)."""
        return self.classifier(self.representation(features, domains)).float()

    def frozen(self, features: Tensor, domains: Tensor) -> Tensor:
        """`forward` with gradients for the features only."""
        parameters = {name: parameter.detach() for name, parameter in self.named_parameters()}
        return functional_call(self, parameters, (features, domains))


@dataclass(frozen=True)
class DomainKnowledge:
    """What a frozen meta-teacher knows of the domains it has seen, in the order of `names`."""

    names: list[str]
    prototypes: Tensor  # (K, C, d)
    representation: DomainRepresentation

    def numbers(self, domains: list[str]) -> Tensor:
        """The domains' numbers, (N,); −1 for one that the teacher has not seen."""
        number = {name: i for i, name in enumerate(self.names)}
        return torch.tensor([number.get(domain, UNKNOWN_DOMAIN) for domain in domains])

    def weights(self, logits: Tensor, features: Tensor, labels: Tensor, domains: Tensor) -> Tensor:
        """Expertise weights λ (N,) of texts with the teacher's logits (N, C) and features (N, d)."""
        scores = prototype_scores(features, domains, labels, self.prototypes)
        of_label = logits.softmax(dim=1).gather(1, labels[:, None]).squeeze(1)
        return expertise_weights(scores, of_label)

    def save(self, directory: Path) -> None:
        """Write `domains.safetensors`."""
        state = {f"representation.{name}": value for name, value in self.representation.state_dict().items()}
        metadata = {str(i): name for i, name in enumerate(self.names)}
        save_file({"prototypes": self.prototypes, **state}, directory / KNOWLEDGE, metadata)

    @classmethod
    def load(cls, directory: Path) -> DomainKnowledge:
        """Read `domains.safetensors` of a finished meta-teacher."""
        with safe_open(directory / KNOWLEDGE, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
            metadata = file.metadata()
        means = tensors.pop("prototypes")
        representation = DomainRepresentation(len(means), means.shape[2])
        representation.load_state_dict({name.removeprefix("representation."): t for name, t in tensors.items()})
        return cls([metadata[str(i)] for i in range(len(means))], means, representation)


def meta_loss(learner: MetaLearner, corruption: float) -> Loss:
    """t(x)·(CE + γ1·L_DC), mean over the batch (§3.1.2); the batch has `weights`, the prototype scores, and `domains`, (B,).

    Domain corruption L_DC asks that a domain classifier, shown h = tanh(W(E[k] + f(x))), answers with domain numbers that
    are shuffled within the batch. In the authors' code the classifier itself learns these answers. It soon ignores what
    it is shown, then teaches the encoder nothing, and a fresh probe finds the domain as well as before. So here the
    encoder alone learns from L_DC, and the classifier learns the true domains, from features that it does not change
    and with the embeddings E shuffled, since E[k] would give the answer away.

    The weight of L_DC rises from 0 to γ1 over the training, as is usual where a network learns against another
    (arXiv 1505.07818, §5.2): at full weight from the start, it drowned the labels on small data.

    :param corruption: γ1; the domain classifier is trained without it too, for the transfer loss needs h.
    """

    def loss(batch: Batch, progress: float) -> Tensor:
        out = learner.teacher(**model_inputs(learner.teacher, batch), output_hidden_states=True)
        losses = F.cross_entropy(out.logits.float(), batch.labels, reduction="none")
        features = mean_state(out.hidden_states[-1], batch.attention_mask.float())
        domains = batch.domain_numbers
        shuffled = domains[torch.randperm(len(domains)).to(domains.device)]
        confusion = F.cross_entropy(learner.judge.frozen(features, domains), shuffled, reduction="none")
        judging = F.cross_entropy(learner.judge(features.detach(), shuffled), domains)
        losses = losses + corruption * progress * confusion
        return weighted(losses, batch.weights).mean() + judging

    return loss


def with_prototype_scores(
    model: PreTrainedModel, train: EncodedSplit, shape: tuple[int, int]
) -> tuple[EncodedSplit, Tensor]:
    """The training texts, each with its prototype score for a weight, and the features (N, d) that the scores come from.

    The scores come from the model before it is fine-tuned, as in the authors' code. So the weights do not change while it
    learns, and a training that is carried on has the same ones. A score below zero counts as zero: with a negative weight
    the model would unlearn the example.

    :param train: texts with `domains`.
    :param shape: number of domains and of classes.
    """
    domains = known_domains(train)
    _, features = logits_and_features(model, train)
    of = prototypes(features, domains, train.labels, shape)
    scores = prototype_scores(features, domains, train.labels, of)
    return train.with_weights(scores.clamp(min=0)), features


def domain_knowledge(learner: MetaLearner, train: EncodedSplit, names: list[str]) -> tuple[DomainKnowledge, Tensor]:
    """What the trained meta-teacher knows, its prototypes in its own, final features, which are returned too, (N, d)."""
    _, features = logits_and_features(learner.teacher, train)
    shape = len(names), learner.teacher.config.num_labels
    of = prototypes(features, known_domains(train), train.labels, shape)
    return DomainKnowledge(names, of, learner.judge.representation.cpu()), features


def logits_and_features(model: PreTrainedModel, texts: EncodedSplit) -> tuple[Tensor, Tensor]:
    """Logits (N, C) and f(x), the mean last hidden states over real tokens, (N, d)."""

    def forward(model: nn.Module, batch: Batch) -> Tensor:
        out = model(**model_inputs(model, batch), output_hidden_states=True)
        return torch.cat([out.logits.float(), mean_state(out.hidden_states[-1], batch.attention_mask.float())], 1)

    accelerator = make_accelerator()
    model.to(accelerator.device)
    loader = make_loader(texts, EVALUATION_BATCH, shuffle=False)
    both = predict(model, loader, forward, accelerator)
    return both[:, : model.config.num_labels], both[:, model.config.num_labels :]


def known_domains(texts: EncodedSplit) -> Tensor:
    """The numbers (N,) of the domains of texts that have them."""
    assert texts.domains is not None, "the texts have no domains"
    return texts.domains
