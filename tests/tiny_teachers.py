"""A tiny teacher of each family that transformers has, with random weights and a tokenizer of the family's kind."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from tests.tiny_task import BAD, GOOD, NOUNS, sentences, write_tsv

RECIPE = '[data]\ntrain = "train.tsv"\ndev = "dev.tsv"\nmax_length = 32\n[teacher]\nmodel = "teacher"\nsteps = 2\n'

WORDS = [*GOOD, *BAD, *NOUNS, "the", "number", "was", "and", "too"]
BERT_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ROBERTA_TOKENS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
FAMILIES = [
    *(
        "bert",
        "distilbert",
        "roberta",
        "xlm-roberta",
        "deberta",
        "deberta-v2",
        "electra",
        "albert",
        "mpnet",
        "modernbert",
    ),
]


def tiny_teacher_of(family: str, directory: Path, **options: Any) -> Path:
    """Write a checkpoint with its tokenizer.

    :param options: further values of its configuration.
    """
    tokenizer = _tokenizer(family)
    torch.manual_seed(0)
    sizes = SIZES | {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "max_position_embeddings": 66,
    }
    config = hf.AutoConfig.for_model(family, **(sizes | _own_sizes(family) | options))
    hf.AutoModelForSequenceClassification.from_config(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def _own_sizes(family: str) -> dict[str, Any]:
    """What a family calls otherwise, or has besides."""
    if family == "distilbert":
        return {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32}
    if family in ("electra", "albert"):
        return {"embedding_size": 8}
    if family == "deberta":
        return {
            "relative_attention": True,
            "pos_att_type": ["c2p", "p2c"],
            "position_biased_input": False,
            "type_vocab_size": 0,
        }
    if family == "deberta-v2":  # as in DeBERTa-v3
        relative = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False}
        return relative | {
            "position_buckets": 8,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "type_vocab_size": 0,
        }
    if family == "modernbert":
        tokens = {"bos_token_id": 0, "eos_token_id": 2, "cls_token_id": 0, "sep_token_id": 2}
        return tokens | {"global_attn_every_n_layers": 2, "local_attention": 8, "reference_compile": False}
    if family == "gpt2":
        return {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}
    return {"type_vocab_size": 1} if family in ("roberta", "xlm-roberta") else {}


def _tokenizer(family: str) -> Any:
    if family in ("bert", "distilbert", "electra", "mpnet"):
        tokens, tokenizer = BERT_TOKENS, _word_pieces()
    elif family in ("roberta", "deberta", "modernbert", "gpt2"):
        tokens, tokenizer = ROBERTA_TOKENS, _bytes()
    elif family == "xlm-roberta":
        tokens, tokenizer = ROBERTA_TOKENS, _unigram(ROBERTA_TOKENS)
    else:  # ALBERT, DeBERTa-v2
        tokens, tokenizer = BERT_TOKENS, _unigram(BERT_TOKENS)
    names = ("cls", "pad", "sep", "unk", "mask") if tokens is ROBERTA_TOKENS else ("pad", "unk", "cls", "sep", "mask")
    special = dict(zip(names, tokens, strict=True))
    ends = [(special[name], tokenizer.token_to_id(special[name])) for name in ("cls", "sep")]
    first, last = special["cls"], special["sep"]
    tokenizer.post_processor = processors.TemplateProcessing(
        f"{first} $A {last}", f"{first} $A {last} $B:1 {last}:1", special_tokens=ends
    )
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **{f"{name}_token": token for name, token in special.items()}
    )


def _word_pieces() -> Tokenizer:
    letters = [*string.ascii_lowercase, *string.digits]
    entries = [*BERT_TOKENS, *letters, *(f"##{letter}" for letter in letters), *WORDS]
    tokenizer = Tokenizer(models.WordPiece({entry: i for i, entry in enumerate(entries)}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    return tokenizer


def _bytes() -> Tokenizer:
    entries = [*ROBERTA_TOKENS, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE({entry: i for i, entry in enumerate(entries)}, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return tokenizer


def _unigram(tokens: list[str]) -> Tokenizer:
    letters = ["▁", *string.ascii_lowercase, *string.digits]
    entries = [*((token, 0.0) for token in tokens), *((letter, -5.0) for letter in letters)]
    entries += [(f"▁{word}", -2.0) for word in WORDS]
    tokenizer = Tokenizer(
        models.Unigram(entries, unk_id=next(i for i, token in enumerate(tokens) if "unk" in token.lower()))
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return tokenizer


def tiny_bert_task(directory: Path) -> Path:
    """Two small tables, a BERT in `teacher` and the file of their recipe, which is returned."""
    write_tsv(directory / "train.tsv", sentences(40))
    write_tsv(directory / "dev.tsv", sentences(20, seed=1))
    tiny_teacher_of("bert", directory / "teacher")
    (directory / "task.toml").write_text(RECIPE, encoding="utf-8")
    return directory / "task.toml"
