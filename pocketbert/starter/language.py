"""The script of texts, and their language where a few frequent words tell it. Only to choose a teacher that can read them."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

# The most frequent words that no other language of the list has among its own.
FREQUENT = {
    "English": "the and of is that it for was with this are my you have not",
    "German": "der und die das ist nicht ich ein eine mit auf für wie auch wir",
    "French": "les des est une pas pour dans sur au vous je cette mais avec très",
    "Spanish": "el los las por una es muy pero como más lo mi está para del",
    "Italian": "il che di non per è una sono con gli della questo ma molto anche",
    "Portuguese": "não uma os do da em um muito mas meu isso você ao pelo foi",
    "Dutch": "het een van niet dat ik voor op zijn maar met deze wel ook bij",
    "Polish": "nie się na jest że do jak ale to tak po od czy bardzo mi",
    "Swedish": "och att det som en är inte jag av på för med till har men",
    "Turkish": "bir ve bu çok için da ne mi gibi ama daha değil ben var kadar",
}
SAMPLE, CHARACTERS = 1000, 300  # texts, and characters of each
CLEAR = 0.05  # a language is plain if this share of the words is among its frequent ones
KANA, LEAST_KANA = ("Hiragana", "Katakana"), 0.01  # Han letters beside more of these are Japanese, else Chinese
MENTIONED = 0.02  # a further script with a smaller share of the letters is left out


@dataclass(frozen=True)
class Language:
    """What the texts are written in."""

    scripts: dict[str, float]  # share of the letters, the most frequent script first
    name: str | None  # None: not plain

    @property
    def english(self) -> bool:
        """Whether a teacher for English can read the texts: they are English, or in Latin letters and of no other known language."""
        return self.name == "English" or (self.name is None and next(iter(self.scripts), "Latin") == "Latin")

    def __str__(self) -> str:
        shares = [f"{share:.0%} {script}" for script, share in self.scripts.items() if share >= MENTIONED]
        letters = f"{', '.join(shares)} letters" if shares else "no letters"
        return f"{self.name}; {letters}" if self.name else f"language not plain; {letters}"


def language_of(texts: Sequence[str]) -> Language:
    """The scripts and the language of texts, from a sample of them."""
    step = max(1, len(texts) // SAMPLE)
    sample = [text[:CHARACTERS] for text in texts[::step]]
    letters = Counter(script for text in sample for letter in text if (script := _script(letter)))
    total = sum(letters.values())
    scripts = {script: count / total for script, count in letters.most_common()}
    words = [word for text in sample for word in re.findall(r"[^\W\d_]+", text.lower())]
    hits = {name: sum(word in known for word in words) for name, known in _frequent().items()}
    best = max(hits, key=lambda name: hits[name])
    plain = next(iter(scripts), "") == "Latin" and hits[best] >= CLEAR * len(words)
    if next(iter(scripts), "") == "Han" and sum(scripts.get(script, 0.0) for script in KANA) < LEAST_KANA:
        return Language(scripts, "Chinese")
    return Language(scripts, best if plain else None)


@cache
def _frequent() -> dict[str, set[str]]:
    return {name: set(words.split()) for name, words in FREQUENT.items()}


@cache
def _script(character: str) -> str | None:
    """The script of a letter, such as Latin, Cyrillic or Han; None for anything else."""
    if not character.isalpha():
        return None
    name = unicodedata.name(character, "").split(" ")[0]
    return "Han" if name == "CJK" else name.capitalize() or None
