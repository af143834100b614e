"""The transformer student: a small BERT. Its layers are copied from a larger model, or it has its own size."""

from __future__ import annotations

import copy
import re
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
)

from compress.data.hub import pretrained_arguments
from compress.objectives.layerwise import matched_layers
from compress.recipe.sections import SPECIAL_INITS, TransformerOptions
from compress.runtime.errors import UserError, one_line
from compress.students.base import label_names


def copied_layers(options: TransformerOptions, source_layers: int) -> list[int]:
    """Numbers, counted from 1, of the source layers that are copied to the student, bottom to top.

    :raises UserError: the source has too few layers.
    """
    if options.layers > source_layers:
        raise UserError(f"student.layers: {options.layers} to copy, but the model has {source_layers}")
    if isinstance(options.copied, list):
        if max(options.copied) > source_layers:
            raise UserError(f"student.copied: layer {max(options.copied)}, but the model has {source_layers}")
        return options.copied
    if options.copied == "skip":
        return matched_layers(options.layers, source_layers)
    first = 1 if options.copied == "first" else source_layers - options.layers + 1
    return list(range(first, first + options.layers))


def student_config(options: TransformerOptions, teacher: PretrainedConfig) -> PretrainedConfig:
    """The configuration of a student of this teacher.

    :raises UserError: the teacher has too few layers, or the model `student.init` cannot be loaded.
    """
    if options.init not in SPECIAL_INITS:
        try:
            found = AutoConfig.from_pretrained(**_pretrained(options.init))
        except UserError:
            raise
        except Exception as error:  # files of others raise exceptions of many unrelated classes
            raise _cannot_load(options.init, error) from None
        default = type(options).model_fields["layers"].default
        if options.layers not in (default, found.num_hidden_layers):
            raise UserError(
                f"student.layers: {options.init} has {found.num_hidden_layers} layers, not {options.layers}; leave student.layers out"
            )
        return found
    config = copy.deepcopy(teacher)
    config.num_hidden_layers = options.layers
    if kinds := getattr(teacher, "layer_types", None):  # of a ModernBERT, whose layers attend to all or to near tokens
        layers = range(1, options.layers + 1) if options.init == "random" else copied_layers(options, len(kinds))
        config.layer_types = [kinds[(number - 1) % len(kinds)] for number in layers]
    if options.init == "random":
        config.hidden_size = options.width or 312
        config.num_attention_heads = options.heads or 12
        inner = "hidden_dim" if config.model_type.startswith("distilbert") else "intermediate_size"
        setattr(config, inner, options.intermediate or 4 * config.hidden_size)
        if hasattr(config, "pooler_hidden_size"):  # DeBERTa
            config.pooler_hidden_size = config.hidden_size
    else:
        copied_layers(options, teacher.num_hidden_layers)
    return config


def make_transformer(
    options: TransformerOptions, teacher: PreTrainedModel, pretrained: PreTrainedModel, labels: list[str], seed: int
) -> PreTrainedModel:
    """A student with these labels, before its training.

    :param teacher: the fine-tuned teacher.
    :param pretrained: the model before fine-tuning, with a new classification head.
    :raises UserError: the model `student.init` cannot be loaded, or its vocabulary is not the teacher's.
    """
    torch.manual_seed(seed)
    names = label_names(labels)
    if options.init not in SPECIAL_INITS:
        try:
            _check_tokens(options.init, teacher)
            student, loading = AutoModelForSequenceClassification.from_pretrained(
                **_pretrained(options.init),
                dtype=torch.float32,
                ignore_mismatched_sizes=True,  # of the head; those of the encoder are checked below
                output_loading_info=True,
                **names,
            )
            _check_loaded(options.init, student, loading)
            return student
        except UserError:
            raise
        except Exception as error:  # see `student_config`
            raise _cannot_load(options.init, error) from None
    config = student_config(options, teacher.config)
    for name, value in names.items():
        setattr(config, name, value)
    student = AutoModelForSequenceClassification.from_config(config)
    if options.init != "random":
        source = teacher if options.init == "teacher" else pretrained
        copy_layers(source, student, copied_layers(options, source.config.num_hidden_layers))
    return student


def copy_layers(source: PreTrainedModel, student: PreTrainedModel, layers: list[int]) -> None:
    """Copy the source's weights to the student. Student layer i gets source layer `layers[i]`, counted from 1.

    :raises UserError: the source has no list of layers, or they are not all alike.
    """
    stack = _layer_stack(source)
    wanted = {number - 1: position for position, number in enumerate(layers)}
    state = {}
    for name, value in source.state_dict().items():
        found = re.match(rf"{re.escape(stack)}\.(\d+)\.(.*)", name)
        if found is None:
            state[name] = value
        elif int(found[1]) in wanted:
            state[f"{stack}.{wanted[int(found[1])]}.{found[2]}"] = value
    missing, unexpected = student.load_state_dict(state, strict=False)
    # The first layer of a ModernBERT has no norm before its attention: the embeddings have one.
    if wrong := [name for name in (*missing, *unexpected) if not re.match(rf"{re.escape(stack)}\.\d+\..*norm", name)]:
        raise UserError(
            f"student.init: the layers of {type(source).__name__} cannot be copied, they are not all alike ({wrong[0]}); use random"
        )


def _layer_stack(model: PreTrainedModel) -> str:
    """Path of the list of layers inside the model, e.g. `bert.encoder.layer`.

    :raises UserError: the model has none.
    """
    for path, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == model.config.num_hidden_layers:
            return path
    raise UserError(
        f"student.init: {type(model).__name__} has no list of layers to copy from; use random or another model"
    )


def _check_tokens(init: str, teacher: PreTrainedModel) -> None:
    # A teacher of the hub that is not trained yet is known by its id; its configuration tells the commit.
    commit = getattr(teacher.config, "_commit_hash", None) or "main"
    own = AutoTokenizer.from_pretrained(teacher.name_or_path, revision=commit)
    if own.get_vocab() != AutoTokenizer.from_pretrained(**_pretrained(init)).get_vocab():
        raise UserError(
            f"student.init: {init} has another vocabulary than the teacher; a student reads the tokens of its teacher"
        )


def _check_loaded(init: str, student: PreTrainedModel, loading: dict[str, Any]) -> None:
    """See that the encoder has all of its weights from the checkpoint. A pooler may be new, as the head is."""
    reshaped = [name for name, *_ in loading["mismatched_keys"]]
    missing = sorted(
        name
        for name in {*loading["missing_keys"], *reshaped}
        if name.startswith(f"{student.base_model_prefix}.") and "pooler" not in name.split(".")
    )
    if missing:
        raise UserError(
            f"student.init: {len(missing)} of the encoder's weights are missing in {init} or have another shape ({missing[0]}), and would "
            "be random; give a complete checkpoint of this architecture"
        )


def _pretrained(init: str) -> dict[str, Any]:
    """The arguments of `from_pretrained` that name `student.init`."""
    return pretrained_arguments(init, None, "student.init")


def _cannot_load(init: str, error: Exception) -> UserError:
    return UserError(
        f"student.init: {init!r} cannot be loaded ({one_line(error)}); give 'pretrained', 'teacher', 'random', a directory or a hub id"
    )
