"""Verdict tokens with the tokenizers that detectors have, and the text of each token."""

import math
import shutil
from importlib.resources import files
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from tokenizers.decoders import DecodeStream
from transformers import AutoTokenizer, LlamaTokenizer, PreTrainedTokenizerFast

from tests.conftest import DEMO_DETECTOR
from worker.detector.description import AnswerForm
from worker.detector.tokens import VerdictTokens, texts, together, verdict_logprobs, verdict_tokens
from worker.errors import ConfigurationError


@pytest.fixture(scope="module")
def sentencepiece() -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(DEMO_DETECTOR)


@pytest.fixture(scope="module")
def byte_level() -> PreTrainedTokenizerFast:
    """A tokenizer like GPT-2's, which Qwen has too. A word with a space before it is another token."""
    words = ["fake", "real", "Fake", "Real", "FAKE", "REAL"]
    merges = [(word[: end - 1], word[end - 1]) for word in words for end in range(2, len(word) + 1)]
    merges += [("Ġ", word) for word in words]
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(pair) for pair in merges)]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def test_the_demo_detectors_words(sentencepiece: PreTrainedTokenizerFast) -> None:
    tokens = verdict_tokens(sentencepiece, AnswerForm())
    lower = sentencepiece.convert_tokens_to_ids(["▁fake", "▁real"])
    assert (tokens.fake[0], tokens.real[0]) == tuple(lower)
    assert not set(tokens.fake) & set(tokens.real)
    assert tokens.ids == tokens.fake + tokens.real


def test_words_with_and_without_a_space_and_in_capitals(byte_level: PreTrainedTokenizerFast) -> None:
    tokens = verdict_tokens(byte_level, AnswerForm())
    named = [set(byte_level.convert_ids_to_tokens(list(side))) for side in (tokens.fake, tokens.real)]
    assert named[0] == {"Ġfake", "ĠFake", "ĠFAKE", "fake", "Fake"}
    assert named[1] == {"Ġreal", "ĠReal", "ĠREAL", "real", "Real"}


def test_words_with_the_same_beginning_differ_at_a_later_token(sentencepiece: PreTrainedTokenizerFast) -> None:
    form = AnswerForm(fake="It is generated.", real="It is genuine.", fake_word="generated", real_word="genuine")
    tokens = verdict_tokens(sentencepiece, form)
    assert not set(tokens.fake) & set(tokens.real)


def test_words_of_one_token_have_no_score(byte_level: PreTrainedTokenizerFast) -> None:
    form = AnswerForm(fake="a 1", real="a 1b", fake_word="1", real_word="1b")
    with pytest.raises(ConfigurationError, match="same tokens"):
        verdict_tokens(byte_level, form)


@pytest.mark.parametrize("text", ["\nThis is a fake image. Wavy €, 猫 and 🐈‍⬛.", "This is", ""])
def test_the_pieces_together_are_the_answer(text: str, sentencepiece: PreTrainedTokenizerFast) -> None:
    ids = sentencepiece.encode(text, add_special_tokens=False)
    pieces = list(texts(sentencepiece, [*ids, sentencepiece.eos_token_id]))
    assert len(pieces) == len(ids) + 1
    assert "".join(pieces) == sentencepiece.decode(ids) == text
    if "fake" in text:
        assert pieces[ids.index(sentencepiece.convert_tokens_to_ids("▁fake"))] == " fake"


def test_bytes_that_are_no_text_do_not_lose_the_answer(tmp_path: Path) -> None:
    shutil.copy(str(files("mistral_common") / "data" / "tokenizer.model.v1"), tmp_path / "tokenizer.model")
    tokenizer = LlamaTokenizer.from_pretrained(tmp_path)
    broken = tokenizer.convert_tokens_to_ids(["<0x64>", "<0xC6>", "▁sheet"])
    stream = DecodeStream(skip_special_tokens=True)
    with pytest.raises(Exception, match="Invalid prefix"):
        [stream.step(tokenizer.backend_tokenizer, token_id) for token_id in broken]
    verdict = tokenizer.encode("This is a fake image.", add_special_tokens=False)
    pieces = list(texts(tokenizer, [*broken, *verdict]))
    assert len(pieces) == len(broken) + len(verdict)
    assert "".join(pieces).endswith("This is a fake image.")


def test_probabilities_of_several_tokens_are_added() -> None:
    assert together([math.log(0.2), math.log(0.3)]) == pytest.approx(math.log(0.5))
    assert together([-math.inf, -math.inf]) == -math.inf
    assert together([-1.5]) == -1.5


def test_the_log_probabilities_of_all_steps_at_once() -> None:
    tokens = VerdictTokens(fake=(7, 8), real=(9,))
    ids = [7, 7, 8, 9, 5, 7, 8, 9]  # two steps; the generated token comes first, and again among the verdict tokens
    values = [-0.2, -0.2, -3.0, -2.0, -0.1, -4.0, -math.inf, -5.0]
    fake, real = verdict_logprobs(tokens, ids, values, 2)
    assert fake == pytest.approx([together([-0.2, -3.0]), together([-4.0, -math.inf])], abs=1e-12)
    assert real == [-2.0, -5.0]


def test_a_step_where_no_verdict_token_is_possible() -> None:
    fake, real = verdict_logprobs(VerdictTokens((7, 8), (9,)), [5, 7, 8, 9], [0.0, *[-math.inf] * 3], 1)
    assert fake == real == [-math.inf]


def test_a_missing_log_probability_is_an_error() -> None:
    with pytest.raises(ValueError, match="no log-probability"):
        verdict_logprobs(VerdictTokens((7,), (9,)), [5, 7, 6], [-1.0, -2.0, -3.0], 1)
