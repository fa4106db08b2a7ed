"""The tokens of the two verdict words, and the text that each generated token adds."""

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
    """Ids of the tokens with which the two words begin to differ: lower case, capitalised and in capitals, with and
    without a space before them.
    """

    fake: tuple[int, ...]
    real: tuple[int, ...]

    @property
    def ids(self) -> tuple[int, ...]:
        """All of them, the fake ones first."""
        return self.fake + self.real


def verdict_tokens(tokenizer: Any, answer: AnswerForm) -> VerdictTokens:
    """The verdict tokens as the tokenizer writes them inside the openings and at the start of an answer.

    Raises ConfigurationError when the words do not differ in a token: such a detector has no score.
    """
    opening = answer.fake.partition(answer.fake_word)[0]
    # Sentencepiece puts a space of its own before a text: what stands without one is seen after another character.
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
            f"FAKESWEEP_DETECTOR: {answer.fake_word!r} and {answer.real_word!r} are the same tokens: no score"
        )
    return tokens


def _first_difference(tokenizer: Any, fake: str, real: str) -> tuple[int, int] | None:
    ids = (tokenizer.encode(text, add_special_tokens=False) for text in (fake, real))
    return next(((one, other) for one, other in zip(*ids, strict=False) if one != other), None)


def texts(tokenizer: Any, token_ids: Sequence[int]) -> Iterator[str]:
    """What each token adds to the answer; together they are the answer, special tokens left out.

    A character that takes several tokens comes with the last of them.
    """
    stream = DecodeStream(skip_special_tokens=True)
    for token_id in token_ids:
        try:
            yield stream.step(tokenizer.backend_tokenizer, token_id) or ""
        except Exception as error:
            if "Invalid prefix" not in str(error):
                raise
            # Bytes that are no text (tokenizers raises a bare Exception; vllm#17448 meets it in the same way).
            stream = DecodeStream(skip_special_tokens=True)
            yield stream.step(tokenizer.backend_tokenizer, token_id) or ""


def verdict_logprobs(
    tokens: VerdictTokens, token_ids: Sequence[int], logprobs: Sequence[float], steps: int
) -> tuple[list[float], list[float]]:
    """The log-probabilities of the fake and of the real tokens together, at each of `steps` steps.

    `token_ids` and `logprobs` are those of all steps, one after the other, as many for each. For all steps at once:
    one by one they cost more than all else that we do with an answer. Raises ValueError when a token is missing.
    """
    ids = np.asarray(token_ids).reshape(steps, -1)
    values = np.asarray(logprobs, dtype=np.float64).reshape(ids.shape)
    rows = np.arange(steps)

    def side(wanted: tuple[int, ...]) -> list[float]:
        found = ids[:, :, None] == np.asarray(wanted)
        if not found.any(axis=1).all():
            raise ValueError("the engine returned no log-probability for a verdict token")
        columns = found.argmax(axis=1)  # the first: the generated token stands there a second time
        of_tokens = values[rows[:, None], columns]
        return [float(one) for one in np.logaddexp.reduce(of_tokens, axis=1)]

    return side(tokens.fake), side(tokens.real)


def together(logprobs: Iterable[float]) -> float:
    """The log-probability of any of several tokens: log(sum(exp(...)))."""
    found = list(logprobs)
    top = max(found)
    return top if len(found) == 1 or top == -math.inf else top + math.log(sum(math.exp(one - top) for one in found))
