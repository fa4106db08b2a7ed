"""A recipe's stages on a tiny real model: what they change, what they leave unchanged, and the folder at the end."""

import filecmp
import hashlib
import json
import logging
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog
import torch
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration, Qwen2VLForConditionalGeneration

from producers.__main__ import main
from tests import second_detector
from tests.heads import write_backbone, write_colours
from tests.training import described, train_in_process, weights, write_base, write_images, write_records
from worker.detector.calibration import Calibration
from worker.detector.description import Thresholds
from worker.detector.loading import load_description
from worker.detector.transformers_engine import TransformersEngine
from worker.errors import ConfigurationError
from worker.lab.datasets.records import Cause, Record
from worker.lab.training.recipe import Lora, Part, Stage
from worker.lab.training.resuming import last_complete_checkpoint
from worker.lab.training.squares import TrainingSet
from worker.lab.training.stages import Lessons, run_stage
from worker.settings import Settings

TOWER, PROJECTOR, LANGUAGE_MODEL = "vision_tower.", "multi_modal_projector.", "language_model."
SHORT: dict[str, Any] = {"crop": 56, "steps": 2, "batch_size": 4, "learning_rate": 1e-3}
CLASSES = Stage(name="classes", train=(Part.VISION_TOWER,), classes="family", **SHORT)
LORA = Stage(name="lora", train=(Part.PROJECTOR, Part.LANGUAGE_MODEL), lora=Lora(rank=2, dropout=0.1), **SHORT)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("dataset"), 16)


@pytest.fixture(scope="module")
def trained(base: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector with all three parts trained in one stage, and some images held out."""
    output = tmp_path_factory.mktemp("trained") / "detector"
    train_in_process(base, dataset, output, Stage(**SHORT), hold_out=0.25, seed=3)
    return output


def changed(before: Path, after: Path) -> set[str]:
    """The names of the weights that differ."""
    old, new = weights(before), weights(after)
    return {name for name in old if not torch.equal(old[name], new[name])}


@pytest.mark.parametrize(
    ("stage", "parts"),
    [
        (Stage(train=(Part.VISION_TOWER,), **SHORT), {TOWER}),
        (Stage(train=(Part.PROJECTOR,), **SHORT), {PROJECTOR}),
        (Stage(train=(Part.LANGUAGE_MODEL,), **SHORT), {LANGUAGE_MODEL}),
        (CLASSES, {TOWER}),
        (LORA, {PROJECTOR, LANGUAGE_MODEL}),
    ],
    ids=["tower", "projector", "language model", "classes", "lora"],
)
def test_a_stage_trains_the_parts_that_it_names_and_changes_no_bit_of_the_others(
    base: Path, dataset: Path, tmp_path: Path, stage: Stage, parts: set[str]
) -> None:
    stage = stage.model_copy(
        update={"gradient_checkpointing": True}
    )  # if it is set up wrongly, it fails without an error
    train_in_process(base, dataset, tmp_path / "out", stage)
    differ = changed(base, tmp_path / "out")
    assert {part for part in (TOWER, PROJECTOR, LANGUAGE_MODEL) if any(one.startswith(part) for one in differ)} == parts
    assert weights(tmp_path / "out").keys() == weights(base).keys()


def test_lora_changes_the_layers_that_it_adapts_and_no_others_of_the_language_model(
    base: Path, dataset: Path, tmp_path: Path
) -> None:
    train_in_process(base, dataset, tmp_path / "out", LORA)
    differ = {
        one.rpartition(".layers.")[2] for one in changed(base, tmp_path / "out") if one.startswith(LANGUAGE_MODEL)
    }
    adapted = ("self_attn.q", "self_attn.k", "self_attn.v", "self_attn.o", "mlp.gate", "mlp.up", "mlp.down")
    assert differ == {f"{layer}.{one}_proj.weight" for layer in range(4) for one in adapted}


def test_lora_trains_the_tower_if_it_is_named_except_for_unused_layers(
    base: Path, dataset: Path, tmp_path: Path
) -> None:
    stage = LORA.model_copy(update={"train": tuple(Part), "weight_decay": 0.1})
    train_in_process(base, dataset, tmp_path / "out", stage)
    differ = {one for one in changed(base, tmp_path / "out") if one.startswith(TOWER)}
    assert any(".layers.3." in one for one in differ)
    assert not any(".layers.4." in one or ".post_layernorm." in one for one in differ)


def test_a_full_fine_tune_changes_all_parts_except_for_unused_layers(base: Path, trained: Path) -> None:
    differ = changed(base, trained)
    assert {f"{TOWER}vision_model.encoder.layers.{layer}.mlp.fc1.weight" for layer in range(4)} <= differ
    assert {f"{PROJECTOR}linear_1.weight", f"{LANGUAGE_MODEL}lm_head.weight"} <= differ
    assert f"{LANGUAGE_MODEL}model.layers.0.mlp.up_proj.weight" in differ
    assert not any(".layers.4." in one or ".post_layernorm." in one for one in differ if one.startswith(TOWER))


def test_the_weights_have_fakevlms_names_and_the_number_format_of_the_base(base: Path, trained: Path) -> None:
    new = weights(trained)
    parts = {name.split(".")[0] + "." + name.split(".")[1] for name in new if not name.startswith(PROJECTOR)}
    assert parts == {"vision_tower.vision_model", "language_model.model", "language_model.lm_head"}
    assert {name: (one.shape, one.dtype) for name, one in new.items()} == {
        name: (one.shape, torch.float16) for name, one in weights(base).items()
    }


def test_a_worker_starts_with_the_folder(base: Path, trained: Path) -> None:
    description, folder = described(trained)
    own = described(base)[0]
    assert (description.name, folder) == ("trained", trained)
    assert 'model = "."' in (trained / "detector.toml").read_text()
    content = hashlib.sha256((trained / "model.safetensors").read_bytes()).hexdigest()
    assert description.checksums == {"model.safetensors": content}
    assert (description.prompts, description.answer, description.notice) == (own.prompts, own.answer, own.notice)
    assert description.fingerprint != own.fingerprint
    TransformersEngine(description, folder).close()


def test_calibration_and_thresholds_of_the_base_are_not_taken_over(base: Path, dataset: Path, tmp_path: Path) -> None:
    calibrated = shutil.copytree(base, tmp_path / "calibrated")
    with (calibrated / "detector.toml").open("a") as file:
        file.write("\n[calibration]\nslope = 0.5\n\n[thresholds]\nfake_from = 0.9\nreal_to = 0.2\n")
    assert described(calibrated)[0].calibration.slope == 0.5
    train_in_process(calibrated, dataset, tmp_path / "out", CLASSES)
    description = described(tmp_path / "out")[0]
    assert (description.calibration, description.thresholds) == (Calibration(), Thresholds())


def test_the_folder_says_how_it_was_trained_and_what_was_held_out(dataset: Path, trained: Path) -> None:
    record = json.loads((trained / "training.json").read_text())
    held_out = json.loads((trained / "held-out.json").read_text())
    drawn = json.loads(dataset.read_text())
    assert 0 < len(held_out) < 16
    assert all(one in drawn for one in held_out)
    assert (record["images"], record["held_out_images"]) == (16 - len(held_out), len(held_out))
    assert (record["seed"], record["hold_out"], record["base"]["name"]) == (3, 0.25, "demo-untrained")
    assert record["dataset"] == hashlib.sha256(dataset.read_bytes()).hexdigest()
    assert record["recipe"]["stages"][0]["learning_rate"] == 1e-3
    assert record["packages"].keys() >= {"torch", "transformers"}
    assert not (trained / ".training").exists()


def test_the_seed_alone_decides_the_weights(base: Path, dataset: Path, trained: Path, tmp_path: Path) -> None:
    for seed in (3, 4):
        train_in_process(base, dataset, tmp_path / str(seed), Stage(**SHORT), hold_out=0.25, seed=seed)
    same = trained / "model.safetensors"
    assert filecmp.cmp(tmp_path / "3" / "model.safetensors", same, shallow=False)
    assert not filecmp.cmp(tmp_path / "4" / "model.safetensors", same, shallow=False)


def test_what_is_finished_is_not_trained_again(base: Path, dataset: Path, trained: Path, tmp_path: Path) -> None:
    output = shutil.copytree(trained, tmp_path / "out")
    (output / ".training").mkdir()  # as a kill between the record and the end leaves it
    (output / "model.safetensors").write_bytes(b"as it was")
    train_in_process(base, dataset, output, Stage(**SHORT), hold_out=0.25, seed=3)
    assert (output / "model.safetensors").read_bytes() == b"as it was"
    assert not (output / ".training").exists()


class Ending:
    """Pixels that can be read `reads` times. The next read raises KeyboardInterrupt, as Ctrl-C does."""

    def __init__(self, pixels: Any, reads: int) -> None:
        self._pixels, self._reads = pixels, reads

    def __getitem__(self, row: int) -> Any:
        if self._reads == 0:
            raise KeyboardInterrupt
        self._reads -= 1
        return self._pixels[row]


@pytest.mark.parametrize("stage", [CLASSES, Stage(**SHORT), LORA], ids=["classes", "full", "lora"])
def test_a_stage_that_continues_from_a_checkpoint_gives_the_same_weights(
    base: Path, tmp_path: Path, stage: Stage
) -> None:
    stage = stage.model_copy(update={"steps": 4, "warmup": 0.0})
    pixels = np.random.default_rng(0).integers(0, 256, (8, 336, 336, 3), np.uint8)
    fields = [{"image": f"{one}.png", "label": one % 2, "line": one + 1, "family": str(one % 3)} for one in range(8)]
    records = tuple(Record.model_validate(one) for one in fields)
    processor = AutoProcessor.from_pretrained(base)

    def run(folder: Path, shown: Any) -> dict[str, torch.Tensor]:
        data = TrainingSet(records, tuple(range(8)), ("0" * 64,) * 8, shown)
        model = LlavaForConditionalGeneration.from_pretrained(base, dtype=torch.float32)
        run_stage(model, stage, Lessons(data, described(base)[0], processor, seed=1, save_steps=1), folder)
        return weights(folder / "model")

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "twice", Ending(pixels, 15))
    reached = last_complete_checkpoint(tmp_path / "twice")
    assert reached is not None
    assert reached.name in {"checkpoint-2", "checkpoint-3"}
    twice, once = run(tmp_path / "twice", pixels), run(tmp_path / "once", pixels)
    assert [name for name in once if not torch.equal(once[name], twice[name])] == []


def test_a_trained_detector_can_be_trained_further(dataset: Path, trained: Path, tmp_path: Path) -> None:
    train_in_process(trained, dataset, tmp_path / "out", Stage(**SHORT), name="further")
    assert described(tmp_path / "out")[0].name == "further"
    assert json.loads((tmp_path / "out" / "training.json").read_text())["base"]["name"] == "trained"


def test_a_fine_tune_learns_what_it_is_shown(base: Path, tmp_path: Path) -> None:
    """Red is fake, and blue is real. After some seconds, it says so of images that it has not seen."""
    (tmp_path / "images").mkdir()
    records = []
    for number in range(16):
        fake = number % 2 == 0
        colour = (200 + number, 30, 30) if fake else (30, 30, 200 + number)
        Image.new("RGB", (336, 336), colour).save(tmp_path / "images" / f"{number}.png")
        records.append({"image": f"images/{number}.png", "label": int(not fake)})
    dataset = write_records(tmp_path, records)
    crops = Stage(name="crops", steps=50, batch_size=8, learning_rate=2e-3, crop=56)
    whole = Stage(name="whole", steps=12, batch_size=4, learning_rate=1e-3)
    train_in_process(base, dataset, tmp_path / "out", crops, whole)
    record = json.loads((tmp_path / "out" / "training.json").read_text())
    losses = [loss for _, loss in record["stages"]["crops"]["loss"]]
    assert losses[-1] < losses[0] / 5
    description, folder = described(tmp_path / "out")
    engine = TransformersEngine(description, folder)
    unseen = [Image.new("RGB", (336, 336), colour) for colour in ((190, 25, 35), (25, 35, 190))]
    completions = engine.complete(unseen, max_tokens=4)
    said = ["".join(step.text for step in one.steps) for one in completions if not isinstance(one, Exception)]
    assert [one.strip() for one in said] == ["This is a fake", "This is a real"]


def test_an_answer_that_contradicts_its_label_is_not_learned(base: Path, dataset: Path, tmp_path: Path) -> None:
    records = json.loads(dataset.read_text())
    records[2]["conversations"][1]["value"] = f"This is a {'fake' if records[2]['label'] else 'real'} image. It shows."
    records[3]["conversations"][1]["value"] = "The light falls from the left."
    changed_set = write_records(shutil.copytree(dataset.parent, tmp_path / "set"), records)
    faults = train_in_process(base, changed_set, tmp_path / "out", Stage(steps=1, batch_size=2, crop=112))
    assert [(fault.image, fault.cause) for fault in faults] == [(records[2]["image"], Cause.CONTRADICTS_LABEL)]


def test_missing_and_broken_images_are_reported_and_all_others_are_used(
    base: Path, dataset: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(dataset.parent, tmp_path / "set")
    records = json.loads(dataset.read_text())
    (copy / records[2]["image"]).unlink()
    (copy / records[5]["image"]).write_bytes(b"no image")
    faults = train_in_process(base, copy / "records.json", tmp_path / "out", CLASSES)
    assert [(one.line, one.cause) for one in faults] == [(4, Cause.MISSING_IMAGE), (7, Cause.UNREADABLE_IMAGE)]
    assert json.loads((tmp_path / "out" / "training.json").read_text())["images"] == 14


def test_a_tower_of_another_kind_is_refused(base: Path, dataset: Path, tmp_path: Path) -> None:
    other = shutil.copytree(base, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    config["vision_feature_layer"] = [-2]
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigurationError, match="training is for LLaVA models with CLIP's tower"):
        train_in_process(other, dataset, tmp_path / "out", CLASSES)


@pytest.mark.parametrize("stage", [LORA, CLASSES], ids=["lora", "classes"])
def test_only_full_fine_tunes_can_have_spread_weights(base: Path, dataset: Path, tmp_path: Path, stage: Stage) -> None:
    with pytest.raises(ConfigurationError, match="launch with --multi_gpu or ZeRO stage 2"):
        train_in_process(base, dataset, tmp_path / "out", stage, weights_are_spread=True)


class CommandLine:
    """Runs `fakesweep train` in this process. Nothing is held out, so the process does not become an evaluation."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capfd = monkeypatch, capfd

    def train(self, dataset: Path, base: Path, output: Path, *options: str) -> tuple[int, str]:
        """Returns the exit code and stderr."""
        return self.run(str(dataset), "--detector", str(base), "--output", str(output), *options)

    def run(self, *given: str) -> tuple[int, str]:
        """Returns the exit code and stderr of `fakesweep train` with these arguments."""
        self._monkeypatch.setattr(sys, "argv", ["fakesweep", "train", "--hold-out", "0", *given])
        self._capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        assert isinstance(ended.value.code, int)
        return ended.value.code, self._capfd.readouterr().err


@pytest.fixture
def command_line(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[CommandLine]:
    root, configured = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    yield CommandLine(monkeypatch, capfd)
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**configured)


def test_bad_usage_gives_one_line_and_exit_code_2(
    command_line: CommandLine, base: Path, dataset: Path, trained: Path, tmp_path: Path
) -> None:
    fakes = [one for one in json.loads(dataset.read_text()) if one["label"] == 0]
    (tmp_path / "fakes.json").write_text(
        json.dumps([one | {"image": str(dataset.parent / one["image"])} for one in fakes])
    )
    steps = ("--steps", "1")
    for given, options, said in [
        ((dataset, base, tmp_path / "a"), ("--recipe", "nonsense"), "'nonsense' is neither one of full, head, lora"),
        ((dataset, tmp_path, tmp_path / "a"), (), "FAKESWEEP_DETECTOR"),
        ((tmp_path / "none.json", base, tmp_path / "a"), (), "DATASET: "),
        ((tmp_path / "fakes.json", base, tmp_path / "b"), steps, "8 fake and 0 real images are left to learn from"),
        ((dataset, base, trained), steps, "holds another training (recipe, seed, hold_out differ)"),
        ((dataset, base, base), steps, "holds a model already; give another folder"),
        ((dataset, base, tmp_path / "a"), ("--name", "n" * 101), "--name: a detector's name has 1 to 100 characters"),
        ((dataset, base, tmp_path / "a"), ("--evaluate", str(tmp_path / "none.json")), "does not exist"),
        ((dataset, base, tmp_path / "a"), (*steps, "--learning-rate", "0"), "learning_rate: must be more than 0"),
    ]:  # fmt: skip
        code, told = command_line.train(*given, *options)
        assert (code, told.count("\n")) == (2, 1), told
        assert told.startswith("fakesweep: ")
        assert said in told
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(("name", "value"), [("ACCELERATE_USE_FSDP", "true"), ("ACCELERATE_DEEPSPEED_ZERO_STAGE", "3")])
def test_the_launcher_tells_that_weights_are_spread(
    command_line: CommandLine, base: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    name: str, value: str,
) -> None:  # fmt: skip
    monkeypatch.setenv(name, value)
    code, told = command_line.train(dataset, base, tmp_path / "out", "--recipe", "lora")
    assert code == 2, told
    assert "launch with --multi_gpu or ZeRO stage 2" in told


def write_second_detector(folder: Path) -> None:
    """A Qwen2-VL that has learned nothing."""
    folder.mkdir()
    (folder / "detector.toml").write_text(second_detector.DESCRIPTION)
    tokenizer = second_detector._tokenizer()
    tokenizer.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(second_detector._preprocessor_config()))
    Qwen2VLForConditionalGeneration(second_detector._config(tokenizer)).save_pretrained(folder)


def test_a_model_of_another_architecture_is_refused(command_line: CommandLine, dataset: Path, tmp_path: Path) -> None:
    write_second_detector(tmp_path / "qwen")
    code, told = command_line.train(dataset, tmp_path / "qwen", tmp_path / "out")
    assert (code, told.count("\n")) == (2, 1), told
    assert "is a qwen2_vl, and training is for LLaVA models with CLIP's tower; give one such as FakeVLM" in told
    assert not (tmp_path / "out").exists()


def test_faults_of_the_dataset_are_named_counted_and_skipped(
    command_line: CommandLine, base: Path, dataset: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(dataset.parent, tmp_path / "set")
    records = json.loads(dataset.read_text())
    records[1]["label"] = 7
    (copy / records[2]["image"]).unlink()
    write_records(copy, [*records, records[0]])
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('[[stages]]\ntrain = ["vision_tower"]\nclasses = "label"\ncrop = 56\nsteps = 1\nbatch_size = 2\n')
    code, told = command_line.train(copy / "records.json", base, tmp_path / "out", "--recipe", str(recipe))
    assert code == 0, told
    for line in ("line 3: unknown_label: ", "line 4: missing_image: ", "line 18: duplicate: "):
        assert told.count(f"fakesweep: {line}") == 1, told
    assert "3 not used (1 unknown_label, 1 duplicate, 1 missing_image)" in told
    faults = [json.loads(one) for one in (tmp_path / "out" / "faults.jsonl").read_text().splitlines()]
    assert [(one["line"], one["cause"]) for one in faults] == [
        (3, "unknown_label"), (4, "missing_image"), (18, "duplicate")
    ]  # fmt: skip
    assert "is trained, and not evaluated: nothing was held out" in told


@pytest.mark.parametrize("fault", ["record", "image"])
def test_strict_stops_at_the_first_fault(
    command_line: CommandLine, base: Path, dataset: Path, tmp_path: Path, fault: str
) -> None:
    copy = shutil.copytree(dataset.parent, tmp_path / "set")
    records = json.loads(dataset.read_text())
    if fault == "record":
        write_records(copy, [{"label": 1}, *records])
    else:
        (copy / records[0]["image"]).unlink()
        write_records(copy, records)
    code, told = command_line.train(copy / "records.json", base, tmp_path / "out", "--strict")
    assert code == 2
    assert told.startswith("fakesweep: --strict: line 2: ")
    assert told.count("\n") == 1
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_a_head_is_learned_on_a_backbone_of_ones_own(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKESWEEP_MODEL_CACHE", str(tmp_path / "cache"))
    dataset, model = write_colours(tmp_path / "set", 12), write_backbone(tmp_path / "clip", "clip")
    (tmp_path / "set" / "images" / "3.png").unlink()
    given = (str(dataset), "--model", str(model), "--recipe", "head", "--robust", "--output", str(tmp_path / "out"))
    code, told = command_line.run(*given)
    assert code == 0, told
    assert "line 5: missing_image: " in told
    assert "1 not used (1 missing_image)" in told
    assert "is trained, and not evaluated: nothing was held out" in told
    record = json.loads((tmp_path / "out" / "training.json").read_text())
    assert (record["images"], record["base"]["name"], len(record["recipe"]["augment"])) == (11, "clip", 12)
    assert len(list((tmp_path / "cache" / "features").iterdir())) == 1
    assert load_description(Settings(detector=str(tmp_path / "out"))).kind == "classifier"


def test_bad_usage_of_a_head_gives_one_line_and_exit_code_2(
    command_line: CommandLine, base: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = ("--output", str(tmp_path / "out"))
    for options, said in [
        (("--recipe", "head", "--epochs", "2"), "--epochs: head learns a head, which has no such option"),
        (("--recipe", "head", "--batch-size", "2"), "--batch-size: head learns a head, which has no such option"),
        (("--recipe", "lora", "--robust"), "--robust: lora is no recipe of a head; give --recipe head"),
        (("--recipe", "head", "--model", str(base)), "is a LLaVA; give --detector, too"),
        (("--recipe", "head", "--model", str(tmp_path / "none")), "holds no config.json"),
    ]:
        code, told = command_line.run(str(dataset), *output, *options)
        assert (code, told.count("\n")) == (2, 1), told
        assert said in told
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, told = command_line.run(str(dataset), *output, "--recipe", "head", "--detector", str(base))
    assert code == 2
    assert "one process learns a head; run the command without a launcher" in told
    assert not (tmp_path / "out").exists()
