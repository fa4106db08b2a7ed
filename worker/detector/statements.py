"""Finds what an English answer states about its image, in sentences like "This is a fake image." and many variants.

A statement needs a subject (this, it, the image), a verb and the word, and then a noun for an image or the end of the
clause. So "unrealistic", "a real problem" and "the light is real" state nothing about the image. A sentence that is
negated, doubted, asked or reported ("not", "might", "some claim that", "real or fake") is not a plain statement, and
nothing is guessed from it. This reader may miss a statement, but must not invent one.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum


class Mood(StrEnum):
    """How a statement is made."""

    PLAIN = "plain"
    NEGATED = "negated"
    DOUBTED = "doubted"


@dataclass(frozen=True)
class Statement:
    """`side` is True for fake. `word` and `whole` are the (start, end) of the word and of the statement in the text."""

    side: bool
    mood: Mood
    word: tuple[int, int]
    whole: tuple[int, int]


# In these patterns "\ " stands for any number of spaces.
_NOUN = (
    r"(?:image|picture|photo(?:graph)?|pic|shot|frame|screenshot|scan|render|portrait|face|selfie|scene|document|doc|"
    r"painting|drawing|illustration|artwork)s?"
)
_PREPOSITION = r"(?:in|of|on|at|by|to|for|from|with|within|inside)"
# "The light in this image is real" speaks of the light.
_SUBJECT = (
    r"(?<!\bin[ ])(?<!\bof[ ])(?<!\bon[ ])(?<!\bat[ ])(?<!\bby[ ])(?<!\bto[ ])(?<!\bfor[ ])(?<!\bfrom[ ])(?<!\bwith[ ])"
    rf"(?<!\bwithin[ ])\b(?:this|that|it|(?:this|that|the)(?:\ (?!{_PREPOSITION}\b)[\w-]+){{0,3}}?\ {_NOUN}"
    r"(?:\ (?:of|showing|depicting)(?:\ [\w-]+){1,5}?|\ (?:that\ )?you\ \w+|\ in\ question|\ above)?)"
    r"(?:,[^,.;:!?]{1,40},)?"
)
_VERB = (
    r"(?:'s|\ (?:is|was|looks?|appears?|seems?|(?:is|was)n't|(?:does|did|do)(?:\ not|n't)?\ (?:look|appear|seem)))"
    r"(?:\ to\ be|\ like)?"
)
_GOES_ON = r"\ (?:because|since|as|due|with|by|but|and|given|to\ me)\b"
_LABEL = r"(?:(?:the|my)\ )?(?:answer|verdict|conclusion|label|result|image)(?:\ is)?[^\w\n]+"

_NEGATION = re.compile(
    r"\b(?:not|no(?!\ doubt)|never|neither|nor|nothing|none|cannot|without|hardly|rarely|unlikely|lacks?|far\ from|"
    r"anything\ but|wrong|incorrect|false|untrue|reject|rule\ out|ruled\ out)\b|n't\b",
    re.IGNORECASE,
)
_DOUBT = re.compile(
    r"\b(?:whether|if|unless|could|would|might|may|maybe|perhaps|possibly|either|or|unclear|unsure|uncertain|difficult|"
    r"hard|(?<!no\ )doubt\w*|claim\w*|says?|said|reported\w*|alleged\w*|caption\w*|label(?:l?ed|s)|contrary|unlike|"
    r"assum\w+|suppos\w+|almost|nearly|attempt\w*|tr(?:y|ies|ying)\ to|designed|made\ to|meant\ to|intended|pretend\w*|"
    r"as\ though)\b|\bq:|\?",
    re.IGNORECASE,
)
# A statement that begins here is a main clause: "While it may look genuine, this is a fake image."
_MAIN_CLAUSE = re.compile(
    r"(?:[,;]|\s[-–—]|\bbut\b)\s+(?:(?:so|then|therefore|clearly|I\ (?:think|believe|conclude)(?:\ that)?)\s+)?$",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"[^.!?\n]+[.!?]*")
_BROKEN_LINE = re.compile(r"(?<![.!?:*\n])\n(?!\n)")


class Grammar:
    """Finds statements that use a word for fake or for real."""

    def __init__(self, fake: tuple[str, ...], real: tuple[str, ...]) -> None:
        self._fake = {word.lower() for word in fake}
        words = "|".join(re.escape(word) for word in sorted((*fake, *real), key=len, reverse=True))
        word = rf"[\"'*_(]{{0,3}}(?P<word>{words})\b(?!-)"
        described = rf"(?:\ (?!(?:or|and|nor|vs)\b)[\w-]+){{0,3}}?\ {_NOUN}\b"  # a fake satellite image
        ended = rf"(?=\s*(?:[.,;:!?)\]\"'*]|$|\ [-–—]\ |{_GOES_ON}))"
        one_side = rf"(?!\s*(?:/|(?:or|nor|vs)\b|and\ (?:{words})\b))"
        filler = rf"(?:\ (?!(?:{words})\b)[\w'-]+){{0,3}}?"
        self._sentence = _compiled(
            rf"{_SUBJECT}{_VERB}(?:\ (?:an?|the|one))?{filler}\ {word}(?:{described}|{ended}){one_side}"
        )
        # "Fake.", "Answer: fake", "A fake image.": the whole sentence, at the start of an answer or after a label.
        self._fragment = _compiled(
            rf"\W*(?P<label>{_LABEL})?(?:an?\ )?{word}(?:{described})?(?=[\"'*_)\]]*\s*(?:[.!]|$|\n)|\*+\ (?!-))"
        )

    def statements(self, text: str) -> Iterator[Statement]:
        """Yields all statements, in the order of the text."""
        text = _BROKEN_LINE.sub(" ", re.sub(r"[\t\xa0]", " ", text.replace("’", "'")))  # the length stays the same
        for number, sentence in enumerate(_SENTENCE.finditer(text)):
            fragment = self._fragment.match(text, sentence.start(), sentence.end())
            if fragment and (fragment["label"] or number == 0):
                yield self._read(text, sentence, fragment)
            for found in self._sentence.finditer(text, sentence.start(), sentence.end()):
                yield self._read(text, sentence, found)

    def _read(self, text: str, sentence: re.Match[str], found: re.Match[str]) -> Statement:
        before = text[sentence.start() : found.start()]
        clause = ("" if _MAIN_CLAUSE.search(before) else before) + text[found.start() : found.start("word")]
        asked = text[found.end("word") : sentence.end()].rstrip().endswith("?")
        mood = Mood.PLAIN
        if asked or _DOUBT.search(clause):
            mood = Mood.DOUBTED
        elif _NEGATION.search(clause):
            mood = Mood.NEGATED
        return Statement(found["word"].lower() in self._fake, mood, found.span("word"), found.span())


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern.replace(r"\ ", " +"), re.IGNORECASE)
