"""Finds the tokens of the two verdict words, and the text that each generated token adds."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tokenizers.decoders import DecodeStream

from worker.detector.description import AnswerForm
from worker.errors import ConfigurationError


@dataclass(frozen=True)
class VerdictTokens:
    """Ids of the tokens in which the two words first differ: lower case, capitalised and in capitals, with and without
    a space before the word.
    """

    fake: tuple[int, ...]
    real: tuple[int, ...]

    @property
    def ids(self) -> tuple[int, ...]:
        """All of them, the fake ones first."""
        return self.fake + self.real


def verdict_tokens(tokenizer: Any, answer: AnswerForm) -> VerdictTokens:
    """Returns the verdict tokens as the tokenizer writes them inside the openings and at the start of an answer.

    Raises ConfigurationError if the words do not differ in a token: such a detector has no score.
    """
    opening = answer.fake.partition(answer.fake_word)[0]
    # Sentencepiece puts a space before a text. A word without a space is seen only after another character.
    places: list[tuple[str, Callable[[str], str]]] = [(opening, case) for case in (str.lower, str.title, str.upper)]
    places += [(start, case) for start in ("", "\n") for case in (str.lower, str.title)]
    fake: dict[int, None] = {}
    real: dict[int, None] = {}
    for context, case in places:
        pair = _first_difference(tokenizer, context + case(answer.fake_word), context + case(answer.real_word))
        if pair:
            fake[pair[0]], real[pair[1]] = None, None
    tokens = VerdictTokens(tuple(id_ for id_ in fake if id_ not in real), tuple(id_ for id_ in real if id_ not in fake))
    if not tokens.fake or not tokens.real:
        raise ConfigurationError(
            f"FAKESWEEP_DETECTOR: {answer.fake_word!r} and {answer.real_word!r} are the same tokens: choose others"
        )
    return tokens


def _first_difference(tokenizer: Any, fake: str, real: str) -> tuple[int, int] | None:
    ids = (tokenizer.encode(text, add_special_tokens=False) for text in (fake, real))
    return next(((one, other) for one, other in zip(*ids, strict=False) if one != other), None)


def texts(tokenizer: Any, token_ids: Sequence[int]) -> Iterator[str]:
    """Yields the text that each token adds to the answer. Together they are the answer, without special tokens.

    A character that takes several tokens comes with the last of them.
    """
    stream = DecodeStream(skip_special_tokens=True)
    for token_id in token_ids:
        try:
            yield stream.step(tokenizer.backend_tokenizer, token_id) or ""
        except Exception as error:
            if "Invalid prefix" not in str(error):
                raise
            # These bytes are not text. (tokenizers raises a bare Exception; vllm#17448 handles it in the same way.)
            stream = DecodeStream(skip_special_tokens=True)
            yield stream.step(tokenizer.backend_tokenizer, token_id) or ""


def verdict_logprobs(
    tokens: VerdictTokens, token_ids: Sequence[int], logprobs: Sequence[float], steps: int
) -> tuple[list[float], list[float]]:
    """Returns the log-probabilities of all fake and of all real tokens together, at each of `steps` steps.

    `token_ids` and `logprobs` hold the same number of entries for each step, one step after the other. All steps are
    computed together: one by one, they would cost more than all other work on an answer. Raises ValueError if a token
    is missing.
    """
    ids = np.asarray(token_ids).reshape(steps, -1)
    values = np.asarray(logprobs, dtype=np.float64).reshape(ids.shape)
    rows = np.arange(steps)

    def side(wanted: tuple[int, ...]) -> list[float]:
        found = ids[:, :, None] == np.asarray(wanted)
        if not found.any(axis=1).all():
            raise ValueError("the engine returned no log-probability for a verdict token")
        columns = found.argmax(axis=1)  # the first one: the generated token appears a second time
        of_tokens = values[rows[:, None], columns]
        return [float(one) for one in np.logaddexp.reduce(of_tokens, axis=1)]

    return side(tokens.fake), side(tokens.real)


def together(logprobs: Iterable[float]) -> float:
    """Returns the log-probability that any one of several tokens comes: log(sum(exp(...)))."""
    found = list(logprobs)
    top = max(found)
    return top if len(found) == 1 or top == -math.inf else top + math.log(sum(math.exp(one - top) for one in found))
