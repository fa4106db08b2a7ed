"""The trainer's input: prompt and pixels of the worker, a loss on the answer only, and one order for each seed."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor

from tests.conftest import DEMO_DETECTOR
from worker.detector.description import VlmDescription
from worker.detector.engine import Engine
from worker.errors import ConfigurationError
from worker.lab.datasets.records import Record
from worker.lab.training.lessons import IGNORED, Answers, Classes, Collator, check_stage, prompt_ids
from worker.lab.training.recipe import Part, Stage
from worker.lab.training.squares import TrainingSet

EDGE = 336
COUNT = 5
IMAGE, EOS, PAD = "<image>", 2, 999


@pytest.fixture(scope="module")
def processor() -> Any:
    return AutoProcessor.from_pretrained(DEMO_DETECTOR)


def record(number: int, answer: str | None = None, **fields: Any) -> Record:
    turns = [{"from": "human", "value": "<image>Another question?"}]
    turns += [{"from": "gpt", "value": answer}] if answer is not None else []
    content = {"image": f"{number}.png", "label": number % 2, "line": number + 1, "conversations": turns}
    return Record.model_validate(content | fields)


@pytest.fixture(scope="module")
def data() -> TrainingSet:
    """Five squares of noise. Row 0 belongs to an image that could not be read."""
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT + 1, EDGE, EDGE, 3), np.uint8)
    records = tuple(record(number, f"This is number {number}.", cate="abcab"[number]) for number in range(COUNT))
    return TrainingSet(records, tuple(range(1, COUNT + 1)), ("0" * 64,) * COUNT, pixels)


def stage_of(**fields: Any) -> Stage:
    return Stage.model_validate({"name": "lesson", "steps": 1} | fields)


class Lesson:
    """Makes the examples of a stage."""

    def __init__(self, data: TrainingSet, processor: Any, description: VlmDescription) -> None:
        self.data, self.processor, self.description = data, processor, description

    def answers(
        self, length: int = 4 * COUNT, seed: int = 1, data: TrainingSet | None = None, **fields: Any
    ) -> Answers:
        return Answers(data or self.data, stage_of(**fields), length, seed, self.processor, self.description)

    def classes(self, field: str) -> Classes:
        stage = stage_of(classes=field, train=(Part.VISION_TOWER,))
        return Classes(self.data, stage, COUNT, 1, self.processor)


@pytest.fixture
def lesson(data: TrainingSet, processor: Any, description: VlmDescription) -> Lesson:
    return Lesson(data, processor, description)


def the_processors_own(lesson: Lesson, place: int) -> Any:
    square = Image.fromarray(lesson.data.pixels[lesson.data.rows[place]])
    return lesson.processor(images=[square], text=[lesson.description.prompt_text], return_tensors="pt")


def test_prompt_and_pixels_of_a_whole_image_are_those_of_the_processor(lesson: Lesson) -> None:
    examples = lesson.answers()
    example, own = examples[0], the_processors_own(lesson, examples.place(0))
    prompt = own["input_ids"][0].tolist()
    image = lesson.processor.tokenizer.convert_tokens_to_ids(IMAGE)
    assert example["input_ids"][: len(prompt)] == prompt
    assert Counter(example["input_ids"])[image] == 576
    torch.testing.assert_close(example["pixel_values"], own["pixel_values"][0], rtol=0, atol=1e-5)


def test_the_prompt_is_the_one_that_the_worker_sends(lesson: Lesson, transformers: Engine) -> None:
    (completion,) = transformers.complete([Image.new("RGB", (EDGE, EDGE))], max_tokens=4)
    assert not isinstance(completion, Exception)
    assert tuple(prompt_ids(lesson.processor, lesson.description, EDGE)) == completion.prompt_token_ids


def test_the_loss_is_on_the_answer_and_its_end_only(lesson: Lesson) -> None:
    examples = lesson.answers()
    prompt = len(prompt_ids(lesson.processor, lesson.description, EDGE))
    for position in range(COUNT):
        example, tokens = examples[position], lesson.processor.tokenizer
        answer = tokens.encode(lesson.data.records[examples.place(position)].answer, add_special_tokens=False)
        assert example["labels"] == [IGNORED] * prompt + [*answer, EOS]
        assert example["input_ids"][prompt:] == [*answer, EOS]
        assert tokens.decode(answer) == lesson.data.records[examples.place(position)].answer


@pytest.mark.parametrize("answer", [None, ""])
def test_a_record_without_an_answer_has_the_opening_for_its_label(lesson: Lesson, answer: str | None) -> None:
    records = (record(0, answer), record(1, answer))
    two = TrainingSet(records, (1, 2), ("0" * 64,) * 2, lesson.data.pixels)
    examples, tokens = lesson.answers(data=two, length=2), lesson.processor.tokenizer
    said = {
        two.records[examples.place(one)].is_fake: tokens.decode(
            [label for label in examples[one]["labels"] if label > EOS]
        )
        for one in range(2)
    }
    assert said == {True: "This is a fake image.", False: "This is a real image."}


def test_max_length_cuts_the_answer(lesson: Lesson) -> None:
    whole = lesson.answers()[0]
    prompt = len(prompt_ids(lesson.processor, lesson.description, EDGE))
    cut = lesson.answers(max_length=prompt + 3)[0]
    assert cut["input_ids"] == whole["input_ids"][: prompt + 3]
    assert cut["labels"] == whole["labels"][: prompt + 3]


def test_each_epoch_has_every_record_once_in_another_order(lesson: Lesson) -> None:
    examples = lesson.answers(length=4 * COUNT)
    places = [examples.place(position) for position in range(len(examples))]
    epochs = [tuple(places[start : start + COUNT]) for start in range(0, len(places), COUNT)]
    assert all(sorted(epoch) == list(range(COUNT)) for epoch in epochs)
    assert len(set(epochs)) > 1


def test_the_order_depends_on_seed_and_stage_only(lesson: Lesson) -> None:
    def places(**changes: Any) -> list[int]:
        examples = lesson.answers(length=4 * COUNT, **changes)
        return [examples.place(position) for position in range(4 * COUNT)]

    assert places() == places(batch_size=1, learning_rate=1e-3, max_length=900)
    assert places() != places(seed=2)
    assert places() != places(name="another")


def test_an_example_does_not_depend_on_those_before_it(lesson: Lesson) -> None:
    forwards, backwards = lesson.answers(crop=56), lesson.answers(crop=56)
    seen = [forwards[position] for position in range(len(forwards))]
    for position in reversed(range(len(backwards))):
        again = backwards[position]
        assert again["input_ids"] == seen[position]["input_ids"]
        assert torch.equal(again["pixel_values"], seen[position]["pixel_values"])


def test_crops_are_squares_at_random_places_and_half_are_mirrored(lesson: Lesson) -> None:
    side, steps = 56, 200
    examples = lesson.answers(length=steps, crop=side)
    images = lesson.processor.image_processor
    mirrored, corners = 0, set()
    for position in range(steps):
        values = examples.pixel_values(position).permute(1, 2, 0).numpy()
        crop = np.rint((values * images.image_std + images.image_mean) * 255).astype(np.uint8)
        square = lesson.data.pixels[lesson.data.rows[examples.place(position)]]
        assert crop.shape == (side, side, 3)
        straight, mirror = found(square, crop), found(square, crop[:, ::-1])
        assert straight or mirror
        mirrored += mirror is not None
        corners.add(straight or mirror)
    assert 70 < mirrored < 130
    assert len(corners) > 0.9 * steps
    places = np.array([corner for corner in corners if corner])
    assert places.min() < 30
    assert places.max() > EDGE - side - 30


def found(square: Any, crop: Any) -> tuple[int, int] | None:
    """Returns where the crop is in the square. Noise does not repeat, so there is only one place."""
    side = len(crop)
    span = len(square) - side + 1
    for top, left in np.argwhere((square[:span, :span] == crop[0, 0]).all(-1)):
        if np.array_equal(square[top : top + side, left : left + side], crop):
            return int(top), int(left)
    return None


def test_crops_have_fewer_image_tokens(lesson: Lesson) -> None:
    image = lesson.processor.tokenizer.convert_tokens_to_ids(IMAGE)
    assert Counter(lesson.answers(crop=112)[0]["input_ids"])[image] == 64


def test_classes_are_numbered_by_the_values_of_the_field(lesson: Lesson) -> None:
    examples = lesson.classes("cate")
    assert examples.names == ["a", "b", "c"]
    for position in range(COUNT):
        category = lesson.data.records[examples.place(position)].category
        assert examples[position]["labels"] == "abc".index(category or "")


def test_a_batch_is_padded_on_the_right_and_the_padding_is_masked() -> None:
    def example(ids: list[int]) -> dict[str, Any]:
        return {"pixel_values": torch.ones(3, 2, 2), "input_ids": ids, "labels": [IGNORED, *ids[1:]]}

    batch = Collator(PAD)([example([5, 6, 7]), example([8])])
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, PAD, PAD]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [[IGNORED, 6, 7], [IGNORED, IGNORED, IGNORED]]
    assert batch["pixel_values"].shape == (2, 3, 2, 2)


def test_a_batch_of_classes_is_pixels_and_numbers() -> None:
    batch = Collator(PAD)([{"pixel_values": torch.ones(3, 2, 2), "labels": label} for label in (2, 0)])
    assert batch.keys() == {"pixel_values", "labels"}
    assert batch["labels"].tolist() == [2, 0]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"crop": 350}, "no square of 350 pixels can be cut from one of 336"),
        ({"max_length": 587}, r"the prompt alone has \d+ tokens; raise max_length, which is 587"),
        ({"classes": "colour", "train": (Part.VISION_TOWER,)}, "field 'colour' does not have two different values"),
    ],
)
def test_an_impossible_stage_is_refused_at_once(lesson: Lesson, fields: dict[str, Any], said: str) -> None:
    stage = stage_of(**fields)
    with pytest.raises(ConfigurationError, match=f"--recipe: stage lesson: .*{said}"):
        check_stage(stage, lesson.data.records, lesson.processor, lesson.description)


@pytest.mark.parametrize("fields", [{}, {"crop": 336}, {"classes": "cate", "train": (Part.VISION_TOWER,)}])
def test_a_possible_stage_is_accepted(lesson: Lesson, fields: dict[str, Any]) -> None:
    check_stage(stage_of(**fields), lesson.data.records, lesson.processor, lesson.description)
