"""Opening the recipe's model: its configuration, tokenizer and weights. Whatever is wrong with them is one line with the cure."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoTokenizer, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from compress.data.assets import model_source
from compress.data.hub import is_local, pretrained_arguments
from compress.recipe.sections import DataOptions, TeacherOptions
from compress.runtime.errors import UserError, one_line

CONVERTERS = ("sentencepiece", "tiktoken")  # packages that read the tokenizer files of some models
TOKENIZER_FILES = {
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
}
WEIGHTS = (".safetensors", ".bin", ".index.json")
ADAPTER = "it is an adapter; merge it into its model (merge_and_unload of peft) and save that with its tokenizer"
POINTER, LARGEST_POINTER = b"version https://git-lfs", 1024  # bytes
SHOWN = 3  # names of weights in a message


def pretrained(options: TeacherOptions) -> dict[str, Any]:
    """The arguments of `from_pretrained` that name the recipe's model.

    :raises UserError: a revision of a model that does not come from the hub, or the hub does not give the model.
    """
    source = model_source(options.model)
    if options.revision is not None and Path(source).is_dir():
        raise UserError(f"teacher.revision: {options.model!r} is a directory; only a model of the hub has revisions")
    return pretrained_arguments(source, options.revision, "teacher.model")


def open_config(options: TeacherOptions) -> PretrainedConfig:
    """The configuration of the recipe's model.

    :raises UserError: there is no such model, or it is no encoder.
    """
    _check_fetched(options)
    with opening(options, "configuration"):
        config = AutoConfig.from_pretrained(**pretrained(options))
    _check_encoder(config, options)
    return config


def open_tokenizer(options: TeacherOptions) -> PreTrainedTokenizerBase:
    """The tokenizer of the recipe's model.

    :raises UserError: it has none, a package for it is missing, or it is no fast tokenizer.
    """
    with opening(options, "tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(**pretrained(options))
        if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):  # made up where there are no files
            raise ValueError("it has no vocabulary")
    if not tokenizer.is_fast:
        raise UserError(f"teacher.model: {options.model} has no fast tokenizer (tokenizer.json), which serving needs")
    return tokenizer


def open_weights(model_class: Any, options: TeacherOptions, **arguments: Any) -> tuple[PreTrainedModel, list[str]]:
    """The recipe's model as an instance of this class, in fp32.

    In fp32 even if the checkpoint is not: training needs it, and autocast chooses the precision of each operation.

    :param arguments: further arguments of `from_pretrained`.
    :returns: the model, and the names of the checkpoint's weights that it has no place for.
    :raises UserError: the weights cannot be read, some of the encoder's are missing or have another shape, or a fine-tuned
        model lacks those of its head.
    """
    with opening(options, "weights"):
        model, loading = model_class.from_pretrained(
            **pretrained(options),
            dtype=torch.float32,
            ignore_mismatched_sizes=True,  # of all weights, so they are checked below
            output_loading_info=True,
            **arguments,
        )
    unexpected = sorted(loading["unexpected_keys"])
    reshaped = [name for name, _, _ in loading["mismatched_keys"]]  # with the shapes that are there and that are wanted
    missing = sorted({*loading["missing_keys"], *reshaped})
    _check_missing(model, missing, unexpected, options)
    return model, unexpected


def check_tokenizer(
    tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, options: TeacherOptions, target: DataOptions
) -> None:
    """Check that the model takes what its tokenizer gives.

    :raises UserError: a token without an embedding, no pad token, or fewer positions than the recipe's `max_length`.
    """
    highest, rows = max(tokenizer.get_vocab().items(), key=lambda item: item[1]), model.get_input_embeddings()
    if highest[1] >= rows.num_embeddings:
        raise UserError(
            f"teacher.model: the tokenizer of {options.model} has the token {highest[0]!r} with number {highest[1]}, the model "
            f"embeddings for {rows.num_embeddings} only; call model.resize_token_embeddings(len(tokenizer)) and save the model, or "
            "give the tokenizer that it was trained with"
        )
    if tokenizer.pad_token_id is None:
        raise UserError(
            f"teacher.model: the tokenizer of {options.model} has no pad token; set tokenizer.pad_token to the one that the model was "
            "trained with, and save the tokenizer"
        )
    positions = usable_positions(model)
    if positions is not None and target.max_length > positions:
        raise UserError(
            f"{target.section}.max_length: the teacher takes {positions} tokens at most, the recipe asks for {target.max_length}"
        )


def usable_positions(model: PreTrainedModel) -> int | None:
    """The most tokens that a model takes; None if there is no limit.

    RoBERTa and its kin number the tokens from `padding_idx + 1` on, so that they take two tokens less than they have positions.
    """
    for name, module in model.named_modules():
        if name.split(".")[-1] == "position_embeddings" and isinstance(module, nn.Embedding):
            return module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
    return getattr(model.config, "max_position_embeddings", None)


@contextmanager
def opening(options: TeacherOptions, what: str) -> Iterator[None]:
    """Turn any exception inside into one line about this part of the model.

    Files of others raise exceptions of many unrelated classes, of transformers, tokenizers, safetensors, pickle and torch.

    :param what: the part, for the message.
    :raises UserError: something inside raised an exception.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason, cure = _reason(options, what, error)
        raise UserError(f"teacher.model: the {what} of {options.model!r} cannot be loaded ({reason}); {cure}") from None


def _reason(options: TeacherOptions, what: str, error: Exception) -> tuple[str, str]:
    """What is wrong with this part of the model, and what to do."""
    directory = Path(model_source(options.model))
    if not directory.is_dir():
        if is_local(options.model):
            return "no such directory", "give 'embedded', 'embedded-base', a checkpoint directory or a hub id"
        cure = "give another model, or a revision of it that has what transformers reads (teacher.revision)"
        if what == "tokenizer" and (absent := _absent()):
            cure = f"it may need what reads the tokenizers of some models: pip install {' '.join(absent)}"
        return one_line(error), cure
    names = {path.name for path in directory.iterdir()}
    if what == "tokenizer":
        if (
            "tokenizer.json" not in names
            and any(name.endswith((".model", ".tiktoken")) for name in names)
            and _absent()
        ):
            return one_line(
                error
            ), f"install what reads it: pip install {' '.join(_absent())} (the extra `train` has them)"
        cure = "save it beside the model: AutoTokenizer.from_pretrained(...).save_pretrained(directory)"
        return ("there is none", cure) if not names & TOKENIZER_FILES else (one_line(error), cure)
    if "adapter_config.json" in names:
        return "there are no weights of a whole model", ADAPTER
    if what == "weights" and not any(name.endswith(WEIGHTS) for name in names):
        return (
            "there is no model.safetensors or pytorch_model.bin",
            "save the model with save_pretrained of transformers",
        )
    if what == "weights" and "quantization_config" in (directory / "config.json").read_text(encoding="utf-8"):
        return one_line(error), "it is quantised; give the model that it was made from"
    if what == "weights":
        cure = "the file may be damaged or cut off: copy it again, or save the model again with save_pretrained"
        return one_line(error), cure
    return one_line(error), "give a directory that save_pretrained has written"


def _check_fetched(options: TeacherOptions) -> None:
    """See that a directory has a configuration, and that its files are not the pointers that Git LFS leaves in their place."""
    directory = Path(model_source(options.model))
    if directory.is_dir() and not (directory / "config.json").is_file():
        # transformers would guess the kind of model from the directory's name.
        inside = sorted(path.parent.name for path in directory.glob("*/config.json"))
        cure = "give a directory that save_pretrained has written"
        if (directory / "adapter_config.json").is_file():
            cure = ADAPTER
        elif inside:
            cure = f"there is one in its folder {inside[0]}: give that as teacher.model"
        raise UserError(f"teacher.model: there is no config.json in {options.model}; {cure}")
    weights = sorted(directory.glob("model*.safetensors")) or sorted(directory.glob("pytorch_model*.bin"))
    whole = directory / "tokenizer.json"
    tokenizer = [whole] if whole.is_file() else [directory / name for name in sorted(TOKENIZER_FILES)]
    for file in (directory / "config.json", *tokenizer, *weights):
        if file.is_file() and file.stat().st_size < LARGEST_POINTER and file.read_bytes().startswith(POINTER):
            raise UserError(
                f"teacher.model: {file} is a pointer of Git LFS, not the file itself; run `git lfs pull` in {options.model}"
            )


def _absent() -> list[str]:
    return [name for name in CONVERTERS if importlib.util.find_spec(name) is None]


def _check_encoder(config: PretrainedConfig, options: TeacherOptions) -> None:
    kind = config.model_type
    decoder = kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    if decoder or config.is_encoder_decoder:
        what = "an encoder with a decoder" if config.is_encoder_decoder else "a decoder, which reads texts one way only"
        raise UserError(
            f"teacher.model: {options.model} ({kind}) is {what}; give an encoder such as a BERT, RoBERTa, DeBERTa or ModernBERT"
        )


def _check_missing(model: PreTrainedModel, missing: list[str], unexpected: list[str], options: TeacherOptions) -> None:
    prefix = f"{model.base_model_prefix}."
    # A language model is saved without a pooler. Like the head, it is trained with the teacher.
    of_encoder = [name for name in missing if name.startswith(prefix) and "pooler" not in name.split(".")]
    if of_encoder:
        raise UserError(
            f"teacher.model: {len(of_encoder)} of the encoder's {_count(model, prefix)} weights are missing in {options.model} or have "
            f"another shape: {_some(of_encoder)}; {_renaming(of_encoder, unexpected)}"
        )
    if options.fine_tuned and missing:
        raise UserError(
            f"teacher.fine_tuned: the head of {options.model} is not in the checkpoint ({_some(missing)}), so it was never trained; "
            "leave fine_tuned out to train it, or give the model that was fine-tuned"
        )


def _count(model: PreTrainedModel, prefix: str) -> int:
    return sum(name.startswith(prefix) for name in model.state_dict())


def _renaming(missing: list[str], unexpected: list[str]) -> str:
    """What to do, given the names of missing weights and of those that the model does not know."""
    for name in unexpected:
        found = next(
            (end for end in missing if name.endswith(f".{end}") or name.endswith(f".{end.split('.', 1)[1]}")), None
        )
        if found is not None:
            return (
                f"the checkpoint has {name!r} instead: save the model itself, not what wraps it (model.module of DataParallel, the "
                "model in a LightningModule, model._orig_mod of torch.compile)"
            )
    return "give a complete checkpoint of this architecture"


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
