"""Training of the masked language model behind an augmentation, on the task's own texts."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModelForMaskedLM, PreTrainedModel

from compress.augment.masked_lm import MaskedLM, language_head, masked_logits
from compress.augment.pieces import read_vocabulary
from compress.data.batches import Batch, EncodedSplit, encode_split, join_splits, make_loader
from compress.data.corpus import Corpus, Split
from compress.recipe.sections import MaskedLmOptions, TeacherOptions, TrainOptions
from compress.runtime.encode import Encoded, TextEncoder
from compress.runtime.errors import UserError, one_line
from compress.teachers.checkpoint import open_tokenizer, pretrained
from compress.training.accelerator import make_accelerator
from compress.training.evaluation import predict
from compress.training.loop import Schedule, fit
from compress.training.optimizer import adamw

# accelerate warns at each checkpoint that tied weights are saved once, which is intended.
logging.getLogger("accelerate.utils.other").setLevel(logging.ERROR)

MASKED = 0.15  # share of the tokens that are to be predicted (BERT, arXiv 1810.04805, §3.1)
NEW_WEIGHTS_RATE = 4.0  # learning rate of randomly initialised weights, relative to the encoder's
HEAD_SCALE = 0.3  # initial scale of a new head's layer norm; with 1, noise would outweigh the token frequencies
DEV_TEXTS = 1000  # enough to compare epochs
SEED = 0  # whatever the recipe's is: like the encoder, the language model is the same for all


def train_masked_lm(
    teacher: TeacherOptions,
    corpus: Corpus,
    options: MaskedLmOptions,
    scratch: Path,
    *,
    max_length: int,
) -> MaskedLM:
    """The masked language model of a task's texts.

    A checkpoint with a masked-LM head is used as it is. Without a head, a new head (its decoder tied to the word
    embeddings) and the encoder are trained for `options.epochs` on the training texts, labelled and unlabelled.

    :param teacher: names the checkpoint.
    :param scratch: directory for checkpoints. A training that was interrupted there is continued.
    :raises UserError: the model cannot be loaded, or is of a kind that is not supported.
    """
    torch.manual_seed(SEED)
    model, new_weights = _load(teacher)
    lm = _with_tokenizer(model, teacher, scratch / "tokenizer", max_length)
    if new_weights:
        texts = encode_split(corpus.splits["train"], lm.encoder)
        if corpus.unlabelled:
            texts = join_splits(texts, encode_split(corpus.unlabelled, lm.encoder))
        # Seeds may choose different texts as the labelled ones. Sorted, the texts have the same order for all seeds.
        texts = texts.subset(sorted(range(len(texts)), key=lambda row: _identity(texts.encoded[row])))
        _start_head(model, new_weights, texts)
        _train(lm, texts, _dev(corpus, lm), new_weights, options, scratch, SEED)
    return _ready(lm)


def condition_on_labels(
    lm: MaskedLM, corpus: Corpus, options: MaskedLmOptions, scratch: Path, *, seed: int
) -> MaskedLM:
    """Fine-tune `lm` on the labelled texts to predict words given the label (CBERT, arXiv 1812.06705, §3.2).

    :param lm: changed in place.
    :param scratch: directory for checkpoints. A training that was interrupted there is continued.
    :raises UserError: the encoder has no token types, which the labels replace.
    """
    torch.manual_seed(seed)
    lm.num_labels = len(corpus.labels)
    _set_label_embeddings(lm.model, lm.num_labels)
    _train(lm, encode_split(corpus.splits["train"], lm.encoder), _dev(corpus, lm), [], options, scratch, seed)
    return _ready(lm)


def mask_tokens(
    ids: Tensor, special: Tensor, mask_token_id: int, vocabulary: int, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Choose 15 % of the tokens: 80 % of them become the mask token, 10 % a random token, 10 % stay (BERT, §3.1).

    :param ids: (B, L).
    :param special: token ids (S,) that are never chosen.
    :param vocabulary: number of token ids; random tokens are sampled from all of them.
    :param generator: source of random numbers; torch's global generator if None.
    :returns: the new ids (B, L), and a bool mask (B, L) of the tokens to predict.
    """
    draw, kind = torch.rand(2, *ids.shape, generator=generator).to(ids.device)
    other = torch.randint(vocabulary, ids.shape, generator=generator).to(ids.device)
    chosen = (draw < MASKED) & ~torch.isin(ids, special.to(ids.device))
    new = torch.where(chosen & (kind < 0.8), mask_token_id, ids)
    return torch.where(chosen & (kind >= 0.9), other, new), chosen


def _identity(text: Encoded) -> tuple[list[int], list[int]]:
    return text.input_ids.tolist(), text.segments.tolist()


def try_masked_lm(teacher: TeacherOptions, texts: Split, max_length: int, *, conditioned: bool) -> None:
    """Check before any training that a model can be the masked language model of these texts: run it untrained once.

    :param conditioned: whether it is to be conditioned on labels.
    :raises UserError: it cannot.
    """
    model, _ = _load(teacher)
    if conditioned and not getattr(model.config, "type_vocab_size", 0):
        _refuse_token_types(model.config.model_type)
    with TemporaryDirectory() as directory:
        lm = _with_tokenizer(model, teacher, Path(directory), max_length)
    batch = encode_split(texts, lm.encoder).batch(range(len(texts)))
    try:
        with torch.inference_mode():
            masked_logits(model.eval(), batch, batch.attention_mask.bool())
    except Exception as error:  # whatever a model of another kind raises
        raise UserError(
            f"augmentation.method: {teacher.model} cannot be run as a masked language model ({one_line(error)}); choose spans, eda or "
            "sampling"
        ) from None


def _load(teacher: TeacherOptions) -> tuple[PreTrainedModel, list[str]]:
    """The model, and the names of the head's weights that are missing in its checkpoint."""
    try:
        model, info = AutoModelForMaskedLM.from_pretrained(
            **pretrained(teacher), dtype=torch.float32, output_loading_info=True
        )
    except UserError:
        raise
    except Exception as error:  # files of others raise exceptions of many unrelated classes
        raise UserError(
            f"teacher.model: {teacher.model!r} cannot be loaded as a masked language model ({one_line(error)}), which augmentation.method needs"
        ) from None
    language_head(model)  # refuses an unknown kind before any work is done
    encoder = f"{model.base_model_prefix}."
    missing = set(info["missing_keys"])
    return model, [name for name, _ in model.named_parameters() if name in missing and not name.startswith(encoder)]


def _with_tokenizer(model: PreTrainedModel, teacher: TeacherOptions, directory: Path, max_length: int) -> MaskedLM:
    tokenizer = open_tokenizer(teacher)
    if tokenizer.mask_token_id is None:
        raise UserError(
            f"teacher.model: the tokenizer of {teacher.model} has no mask token, which augmentation.method needs"
        )
    tokenizer.save_pretrained(directory)
    lm = MaskedLM(model, tokenizer, TextEncoder(directory / "tokenizer.json", max_length, tokenizer.pad_token_id or 0))
    read_vocabulary(lm.encoder.tokenizer)  # refuses any other kind than WordPiece
    return lm


def _set_label_embeddings(model: PreTrainedModel, labels: int) -> None:
    """Replace the token type embeddings by one embedding for each label, all initialised with type 0's (§3.2).

    :raises UserError: the encoder has no token types.
    """
    embeddings = model.base_model.embeddings
    old = getattr(embeddings, "token_type_embeddings", None)
    if old is None:
        _refuse_token_types(model.config.model_type)
    new = nn.Embedding(labels, old.embedding_dim)
    with torch.no_grad():
        new.weight.copy_(old.weight[:1].expand_as(new.weight))
    embeddings.token_type_embeddings = new
    model.config.type_vocab_size = labels


def _refuse_token_types(kind: str) -> NoReturn:
    raise UserError(
        f"augmentation.method: cbert needs an encoder with token types, and {kind} has none; choose tinybert"
    )


def _dev(corpus: Corpus, lm: MaskedLM) -> EncodedSplit:
    dev = encode_split(corpus.splits["dev"], lm.encoder)
    return dev.subset(range(min(DEV_TEXTS, len(dev))))


def _ready(lm: MaskedLM) -> MaskedLM:
    lm.model = lm.model.to(make_accelerator().device).eval()
    return lm


def _start_head(model: PreTrainedModel, new_weights: list[str], train: EncodedSplit) -> None:
    """Initialise a new head so that it learns in a few hundred steps.

    Its bias is the log frequency of the tokens (add-one). Its transform is the identity, so the logits compare the
    encoder's hidden states with the word embeddings. Their scale is small, so the frequencies dominate at first.
    """
    for name, weight in model.named_parameters():
        if name in new_weights:
            if weight.ndim == 2 and weight.shape[0] == weight.shape[1]:
                nn.init.eye_(weight)
            elif name.lower().endswith(("layernorm.weight", "layer_norm.weight")):
                nn.init.constant_(weight, HEAD_SCALE)
    bias = model.get_output_embeddings().bias
    tokens = torch.cat([torch.from_numpy(encoded.input_ids) for encoded in train.encoded])
    counts = torch.bincount(tokens, minlength=len(bias)).float() + 1
    with torch.no_grad():
        bias.copy_((counts / counts.sum()).log())


def _train(
    lm: MaskedLM,
    train: EncodedSplit,
    dev: EncodedSplit,
    new_weights: list[str],
    options: MaskedLmOptions,
    scratch: Path,
    seed: int,
) -> None:
    special = torch.tensor(lm.tokenizer.all_special_ids)

    def losses(model: PreTrainedModel, batch: Batch, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Cross entropies (M,) at the M chosen positions, and the bool mask (B, L) of these positions."""
        ids, chosen = mask_tokens(batch.input_ids, special, lm.mask_token_id, len(lm.tokenizer), generator)
        masked = replace(batch, input_ids=ids)
        if lm.num_labels:  # the label stands where token types were (§3.2)
            masked = replace(masked, type_ids=batch.labels[:, None].expand_as(ids))
        logits = masked_logits(model, masked, chosen).float()
        return F.cross_entropy(logits, batch.input_ids[chosen], reduction="none"), chosen

    def loss(batch: Batch, progress: float) -> Tensor:
        values, chosen = losses(lm.model, batch)
        return values.sum() / max(1, int(chosen.sum()))  # in a small last batch, no token may be chosen

    def dev_losses(model: nn.Module, batch: Batch) -> Tensor:
        """Sum of the cross entropies and number of chosen positions, (B, 2); the same positions at each call."""
        assert isinstance(model, PreTrainedModel)
        values, chosen = losses(model, batch, torch.Generator().manual_seed(int(batch.index[0])))
        sums = values.new_zeros(len(chosen)).index_add(0, chosen.nonzero()[:, 0], values)
        return torch.stack([sums, chosen.sum(dim=1)], dim=1)

    dev_loader = make_loader(dev, 64, shuffle=False)
    accelerator = make_accelerator()

    def evaluate(model: nn.Module) -> dict[str, float]:
        total, places = predict(model, dev_loader, dev_losses, accelerator).sum(dim=0).tolist()
        return {"metric": -total / max(1.0, places), "dev masked-LM loss": total / max(1.0, places)}

    # Word embeddings are half of a small encoder's weights, and the task's texts use few of them. They are not trained.
    lm.model.get_input_embeddings().weight.requires_grad_(False)
    trained = [(name, weight) for name, weight in lm.model.named_parameters() if weight.requires_grad]
    new = [weight for name, weight in trained if name in new_weights]
    known = [weight for name, weight in trained if name not in new_weights]
    groups: list[dict[str, Any]] = [{"params": known}, {"params": new, "lr": options.learning_rate * NEW_WEIGHTS_RATE}]
    loader = make_loader(train, options.batch_size, shuffle=True, seed=seed)
    training = TrainOptions(learning_rate=options.learning_rate)
    schedule = Schedule(options.epochs, options.epochs, seed)
    fit("masked LM", lm.model, [adamw(loader, groups, loss, training)], evaluate, schedule, scratch)
