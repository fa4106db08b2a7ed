"""The token ids of the two verdict words."""

from typing import Any

from worker.detector.description import DetectorDescription
from worker.errors import ConfigurationError


def verdict_token_ids(tokenizer: Any, description: DetectorDescription) -> tuple[int, int]:
    """Ids of the first tokens that differ between the fake and the real opening, as the tokenizer writes them there.

    Raises ConfigurationError when the openings do not differ: such a detector has no score.
    """
    fake = tokenizer.encode(description.fake_opening, add_special_tokens=False)
    real = tokenizer.encode(description.real_opening, add_special_tokens=False)
    for fake_id, real_id in zip(fake, real, strict=False):
        if fake_id != real_id:
            return fake_id, real_id
    raise ConfigurationError("FAKESWEEP_DETECTOR: fake_opening and real_opening are the same tokens: no score")
