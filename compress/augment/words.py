"""Words separated by whitespace, and the punctuation and capitals that an edit must keep."""

from __future__ import annotations

import re

_AFFIXES = re.compile(r"(\W*)(.*?)(\W*)", re.DOTALL)

# English function words and the endings of contractions. They have no real synonyms, and replacing them breaks the sentence.
_FUNCTION_WORDS = """
    a about above after again against all am an and any are as at be because been before being below between both but by
    can could did do does doing down during each few for from further had has have having he her here hers herself him
    himself his how i if in into is it its itself just me more most my myself no nor not now of off on once only or other
    our ours ourselves out over own same shall she should so some such than that the their theirs them themselves then
    there these they this those through to too under until up very was we were what when where which while who whom why
    will with would you your yours yourself yourselves
    ain't aren't can't couldn't didn't doesn't don't hadn't hasn't haven't he'd he'll he's i'd i'll i'm i've isn't it'd
    it'll it's let's mightn't mustn't needn't shan't she'd she'll she's shouldn't that's there's they'd they'll they're
    they've wasn't we'd we'll we're we've weren't what's who's won't wouldn't you'd you'll you're you've
    d ll m re s t ve
"""
STOP_WORDS = frozenset(_FUNCTION_WORDS.split())


def split_affixes(word: str) -> tuple[str, str, str]:
    """Punctuation, core and punctuation: `("(", "great", "!)")` for `"(great!)"`. Without letters or digits, the core is empty."""
    matched = _AFFIXES.fullmatch(word)
    assert matched is not None, "the expression matches every string"
    return matched[1], matched[2], matched[3]


def is_stop_word(core: str) -> bool:
    """Whether a word, without its punctuation, is a function word."""
    return core.lower().replace("’", "'") in STOP_WORDS


def match_case(word: str, model: str) -> str:
    """`word` in the case of `model`: all letters upper-case, the first letter upper-case, or unchanged."""
    if len(model) > 1 and model.isupper():
        return word.upper()
    return word[:1].upper() + word[1:] if model[:1].isupper() else word
