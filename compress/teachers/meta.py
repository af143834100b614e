"""Meta-KD's teacher: one teacher for many domains, with domain corruption and prototypes (arXiv 2012.01266, §3.1)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from transformers import PreTrainedModel

from compress.data.batches import Batch, EncodedSplit, make_loader
from compress.data.tensor_files import load_tensors
from compress.objectives.expertise import (
    expertise_weights,
    mean_state,
    prototype_scores,
    prototypes,
    weighted,
)
from compress.teachers.domain_representation import UNKNOWN_DOMAIN, DomainRepresentation
from compress.training.accelerator import make_accelerator
from compress.training.evaluation import EVALUATION_BATCH, model_inputs, predict
from compress.training.optimizer import Loss

KNOWLEDGE = "domains.safetensors"  # in the directory of the checkpoint
DOMAIN_CLASSIFIER_RATE = 10  # learning rate of the domain classifier, as a multiple of the teacher's


class MetaLearner(nn.Module):
    """The teacher, and the domain classifier of domain corruption.

    The teacher learns to hide the domain of a text from the domain classifier.
    """

    def __init__(self, teacher: PreTrainedModel, domains: int) -> None:
        super().__init__()
        self.teacher = teacher
        self.domain_classifier = DomainClassifier(domains, teacher.config.hidden_size)

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """Parameter groups for the optimiser.

        The domain classifier has a larger learning rate, since it starts from random weights and the encoder does not.
        """
        return [
            {"params": list(self.teacher.parameters())},
            {"params": list(self.domain_classifier.parameters()), "lr": DOMAIN_CLASSIFIER_RATE * learning_rate},
        ]


class DomainClassifier(nn.Module):
    """Predicts the domain of a text from its representation h."""

    def __init__(self, domains: int, width: int) -> None:
        super().__init__()
        self.representation = DomainRepresentation(domains, width)
        self.classifier = nn.Linear(width, domains)

    def forward(self, features: Tensor, domains: Tensor) -> Tensor:
        """Logits of the domains, (B, K).

        :param features: f(x), (B, d).
        :param domains: numbers of the domains k whose embeddings E[k] are added to the features, (B,).
        """
        return self.classifier(self.representation(features, domains)).float()

    def frozen(self, features: Tensor, domains: Tensor) -> Tensor:
        """`forward`, but gradients reach the features only."""
        parameters = {name: parameter.detach() for name, parameter in self.named_parameters()}
        return functional_call(self, parameters, (features, domains))


@dataclass(frozen=True)
class DomainKnowledge:
    """The prototypes and the domain representation of a frozen meta-teacher.

    Domains are numbered in the order of `names`.
    """

    names: list[str]
    prototypes: Tensor  # (K, C, d)
    representation: DomainRepresentation

    def numbers(self, domains: list[str]) -> Tensor:
        """The numbers of these domains, (N,); −1 for a domain that the teacher has not seen."""
        number = {name: i for i, name in enumerate(self.names)}
        return torch.tensor([number.get(domain, UNKNOWN_DOMAIN) for domain in domains])

    def weights(self, logits: Tensor, features: Tensor, labels: Tensor, domains: Tensor) -> Tensor:
        """Expertise weights λ of N texts, (N,).

        :param logits: of the teacher, (N, C).
        :param features: of the teacher, (N, d).
        :param labels: (N,).
        :param domains: numbers of the domains, (N,).
        """
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
        tensors, metadata = load_tensors(directory / KNOWLEDGE)
        means = tensors.pop("prototypes")
        representation = DomainRepresentation(len(means), means.shape[2])
        representation.load_state_dict({name.removeprefix("representation."): t for name, t in tensors.items()})
        return cls([metadata[str(i)] for i in range(len(means))], means, representation)


def meta_loss(learner: MetaLearner, corruption: float) -> Loss:
    """t(x)·(CE + γ1·L_DC), the mean over the batch (§3.1.2).

    The batch has `weights`, the prototype scores t(x), and `domains`, both (B,).

    Domain corruption L_DC is the cross-entropy of a domain classifier on h = tanh(W(E[k] + f(x))) with domain numbers
    that are shuffled within the batch. In the authors' code the classifier itself is trained with these shuffled
    numbers. It soon ignores its input. Then the encoder gets no gradient from it, and a newly trained probe finds the
    domain as well as before. So here only the encoder is trained with L_DC. The classifier is trained with the true
    domains, and this changes neither the encoder nor its features. For it the embeddings E are shuffled, since E[k]
    would tell it the domain.

    The weight of L_DC rises from 0 to γ1 over the training, as is usual in adversarial training (arXiv 1505.07818, §5.2).
    With the full weight from the start, L_DC was stronger than the labels on small data.

    :param corruption: γ1. With 0 the domain classifier is trained all the same, since the transfer loss needs h.
    """

    def loss(batch: Batch, progress: float) -> Tensor:
        out = learner.teacher(**model_inputs(learner.teacher, batch), output_hidden_states=True)
        losses = F.cross_entropy(out.logits.float(), batch.labels, reduction="none")
        features = mean_state(out.hidden_states[-1], batch.attention_mask.float())
        domains = batch.domain_numbers
        shuffled = domains[torch.randperm(len(domains)).to(domains.device)]
        confusion = F.cross_entropy(learner.domain_classifier.frozen(features, domains), shuffled, reduction="none")
        classifier_loss = F.cross_entropy(learner.domain_classifier(features.detach(), shuffled), domains)
        losses = losses + corruption * progress * confusion
        return weighted(losses, batch.weights).mean() + classifier_loss

    return loss


def with_prototype_scores(
    model: PreTrainedModel, train: EncodedSplit, shape: tuple[int, int]
) -> tuple[EncodedSplit, Tensor]:
    """Set the prototype score of each training text as its weight.

    The scores come from the model before it is fine-tuned, as in the authors' code. So the weights do not change during
    the training, and a resumed training has the same weights. A score below zero counts as zero, since a negative weight
    would train the model to be wrong on the example.

    :param train: N texts with `domains`.
    :param shape: number of domains and number of classes.
    :returns: the texts with `weights`, and the features (N, d) from which the scores were computed.
    """
    domains = known_domains(train)
    _, features = logits_and_features(model, train)
    means = prototypes(features, domains, train.labels, shape)
    scores = prototype_scores(features, domains, train.labels, means)
    return train.with_weights(scores.clamp(min=0)), features


def domain_knowledge(learner: MetaLearner, train: EncodedSplit, names: list[str]) -> tuple[DomainKnowledge, Tensor]:
    """The knowledge of a trained meta-teacher, with prototypes of its final features.

    :param train: N texts with `domains`.
    :param names: of the domains, in the order of their numbers.
    :returns: the knowledge, and the final features (N, d).
    """
    _, features = logits_and_features(learner.teacher, train)
    shape = len(names), learner.teacher.config.num_labels
    means = prototypes(features, known_domains(train), train.labels, shape)
    return DomainKnowledge(names, means, learner.domain_classifier.representation.cpu()), features


def logits_and_features(model: PreTrainedModel, texts: EncodedSplit) -> tuple[Tensor, Tensor]:
    """The logits (N, C), and the features f(x), (N, d): the mean of the last hidden states over real tokens."""

    def forward(model: nn.Module, batch: Batch) -> Tensor:
        out = model(**model_inputs(model, batch), output_hidden_states=True)
        return torch.cat([out.logits.float(), mean_state(out.hidden_states[-1], batch.attention_mask.float())], 1)

    accelerator = make_accelerator()
    model.to(accelerator.device)
    loader = make_loader(texts, EVALUATION_BATCH, shuffle=False)
    both = predict(model, loader, forward, accelerator)
    return both[:, : model.config.num_labels], both[:, model.config.num_labels :]


def known_domains(texts: EncodedSplit) -> Tensor:
    """The numbers of the texts' domains, (N,). The texts must have domains."""
    assert texts.domains is not None, "the texts have no domains"
    return texts.domains
