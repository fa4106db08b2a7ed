"""A head on tiny real towers: what the worker serves is what was learned, and nothing is computed twice."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoImageProcessor, LlavaForConditionalGeneration, pipeline

from deploy.demo.head import learn_demo_head
from tests.heads import EDGE, PROCESSORS, backbone, learn, tower_of, write_backbone, write_colours, write_processor
from tests.training import write_base, write_records
from worker.detector.classifier import ClassifierDetector
from worker.detector.description import ClassifierDescription
from worker.detector.loading import load_description
from worker.detector.pixels import Pixels
from worker.detector.supply import supply
from worker.detector.verdicts import Judgement
from worker.errors import ConfigurationError
from worker.images import decode
from worker.lab.datasets.records import Cause
from worker.lab.evaluation.perturbations import PERTURBATIONS
from worker.lab.evaluation.trained import trained_on
from worker.lab.training.recipe import HeadRecipe
from worker.messages import Policy
from worker.settings import Settings

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_backbone(tmp_path_factory.mktemp("clip"), "clip")


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("llava"))


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_colours(tmp_path_factory.mktemp("colours"), 24)


def served(folder: Path) -> ClassifierDetector:
    """Starts what a worker would start. Raises ConfigurationError if the worker would not start."""
    settings = Settings(detector=str(folder))
    description, model = supply(load_description(settings), settings)
    assert isinstance(description, ClassifierDescription)
    return ClassifierDetector(description, model)


def judged(detector: ClassifierDetector, dataset: Path, change: str = "clean") -> dict[str, Judgement]:
    """Returns what the detector says of each image of a dataset, by its name, under a change."""
    form = detector.description.preprocessing
    names = [one["image"] for one in json.loads(dataset.read_text())]
    squares = []
    for name in names:
        file = io.BytesIO()
        with Image.open(dataset.parent / name) as image:
            PERTURBATIONS[change](image.convert("RGB"), name).save(file, "PNG")
        squares.append(decode(file.getvalue(), edge=form.edge, fit=form.fit, decoding=form.decode))
    found = detector.judge(squares, Policy())
    return {name: one for name, one in zip(names, found, strict=True) if isinstance(one, Judgement)}


def learned_log_odds(folder: Path) -> list[float]:
    """Returns features @ weights + bias of the training, from the features on the disk."""
    weights = load_file(folder / "model.safetensors")
    (cache,) = (folder.parent / "features").iterdir()
    features = np.concatenate([np.load(path)["features"] for path in sorted(cache.glob("*.npz"))])
    head, bias = weights["classifier.weight"].numpy(), weights["classifier.bias"].numpy()
    assert not head[0].any()
    return sorted((features @ (head[1] - head[0]) + bias[1] - bias[0]).tolist())


@pytest.mark.parametrize("kind", [*PROCESSORS, "llava"])
def test_the_worker_gives_the_scores_that_were_learned(kind: str, llava: Path, colours: Path, tmp_path: Path) -> None:
    base = tower_of(llava) if kind == "llava" else backbone(write_backbone(tmp_path / "base", kind))
    assert learn(base, colours, tmp_path / "out") == []
    detector = served(tmp_path / "out")
    found = judged(detector, colours)
    assert sorted(one.log_odds or 0 for one in found.values()) == pytest.approx(
        learned_log_odds(tmp_path / "out"), abs=1e-4
    )
    right = [(one.answer == "fake") == (number % 2 == 0) for number, one in enumerate(found.values())]
    assert np.mean(right) > 0.9


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_scores_in_16_bits_are_those_that_were_learned(
    dtype: str, clip: Path, colours: Path, tmp_path: Path
) -> None:
    """The tower is in 16 bits, and the head is not."""
    learn(backbone(clip), colours, tmp_path / "out", HeadRecipe.model_validate({"dtype": dtype}))
    detector = served(tmp_path / "out")
    assert detector.description.dtype == dtype
    found = sorted(one.log_odds or 0 for one in judged(detector, colours).values())
    assert found == pytest.approx(learned_log_odds(tmp_path / "out"), abs=1e-4)


def test_a_head_reads_the_layer_that_the_projector_reads_and_leaves_out_all_above(
    llava: Path, colours: Path, tmp_path: Path
) -> None:
    learn(tower_of(llava), colours, tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["architectures"], config["vision_config"]["num_hidden_layers"]) == (
        ["CLIPForImageClassification"],
        4,
    )
    weights = load_file(tmp_path / "out" / "model.safetensors")
    assert not any(".layers.4." in name for name in weights)
    assert {one.dtype for name, one in weights.items() if not name.startswith("classifier.")} == {torch.float16}
    detector = served(tmp_path / "out")
    square = Image.effect_noise((336, 336), 80).convert("RGB")
    whole = LlavaForConditionalGeneration.from_pretrained(llava, dtype=torch.float32)
    with torch.inference_mode():
        pixels = Pixels(detector.description).of([square])
        seen = whole.model.vision_tower(pixels, output_hidden_states=True).hidden_states[-2][:, 1:].mean(1)
    logits = seen.numpy() @ weights["classifier.weight"].numpy().T + weights["classifier.bias"].numpy()
    (judgement,) = detector.judge([square], Policy())
    assert isinstance(judgement, Judgement)
    assert judgement.log_odds == pytest.approx(float(logits[0, 1] - logits[0, 0]), abs=1e-4)


def test_the_folder_says_what_it_is_and_whose_terms_apply(llava: Path, colours: Path, tmp_path: Path) -> None:
    learn(tower_of(llava), colours, tmp_path / "out", hold_out=0.3, seed=2, name="first-stage")
    description = served(tmp_path / "out").description
    assert (description.name, description.kind, description.answer_limit) == ("first-stage", "classifier", None)
    assert "this is not FakeVLM" in (description.notice or "")
    assert "A head on the vision tower of demo-untrained, whose terms of use apply" in (description.notice or "")
    record = json.loads((tmp_path / "out" / "training.json").read_text())
    held_out = json.loads((tmp_path / "out" / "held-out.json").read_text())
    assert (record["images"], record["held_out_images"], record["layer"]) == (24 - len(held_out), len(held_out), 4)
    assert held_out
    assert record["log_loss"].keys() == {"0.0001", "0.001", "0.01", "0.1", "1", "10"}
    assert not (tmp_path / "out" / ".training").exists()
    assert trained_on([tmp_path, tmp_path / "out"]) == (record["dataset"],)


def test_the_pipeline_of_transformers_gives_the_same_score(clip: Path, colours: Path, tmp_path: Path) -> None:
    learn(backbone(clip), colours, tmp_path / "out")
    (name, ours), *_ = judged(served(tmp_path / "out"), colours).items()
    theirs = pipeline("image-classification", str(tmp_path / "out"))(str(colours.parent / name))
    scores = {one["label"]: one["score"] for one in theirs}
    assert scores["fake"] == pytest.approx(ours.score, abs=0.01)


def test_a_second_training_does_not_run_the_tower_again(clip: Path, colours: Path, tmp_path: Path) -> None:
    learn(backbone(clip), colours, tmp_path / "one")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "features").rglob("*.npz")}
    learn(backbone(clip), colours, tmp_path / "two", HeadRecipe(inverse_regularisation=(5.0,)))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "features").rglob("*.npz")} == before
    learn(backbone(clip), colours, tmp_path / "three", HeadRecipe(layer=2))
    assert len(list((tmp_path / "features").iterdir())) == 2


def test_a_classifiers_tower_can_get_a_new_head(clip: Path, colours: Path, tmp_path: Path) -> None:
    learn(backbone(clip), colours, tmp_path / "one")
    learn(tower_of(tmp_path / "one"), colours, tmp_path / "two")
    one, two = (list(judged(served(tmp_path / name), colours).values()) for name in ("one", "two"))
    assert [first.log_odds for first in one] == pytest.approx([second.log_odds for second in two], abs=1e-4)


def test_a_robust_head_loses_less_when_images_are_blurred(clip: Path, tmp_path: Path) -> None:
    """Fakes have a grain, which a blur removes, and a shade of red, which stays."""
    dataset = write_colours(tmp_path / "set", 60, grain=80, shift=30)
    learn(backbone(clip), dataset, tmp_path / "plain")
    learn(backbone(clip), dataset, tmp_path / "robust", HeadRecipe(augment=("blur_3",)))

    def accuracy(name: str, change: str) -> float:
        found = judged(served(tmp_path / name), dataset, change).values()
        return float(np.mean([(one.answer == "fake") == (number % 2 == 0) for number, one in enumerate(found)]))

    lost = {name: accuracy(name, "clean") - accuracy(name, "blur_3") for name in ("plain", "robust")}
    assert lost["robust"] + 0.1 < lost["plain"], lost


def test_what_is_finished_is_not_learned_again_and_another_training_is_refused(
    clip: Path, colours: Path, tmp_path: Path
) -> None:
    learn(backbone(clip), colours, tmp_path / "out")
    (tmp_path / "out" / "model.safetensors").write_bytes(b"as it was")
    learn(backbone(clip), colours, tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == b"as it was"
    with pytest.raises(ConfigurationError, match=r"holds another training \(recipe differ\)"):
        learn(backbone(clip), colours, tmp_path / "out", HeadRecipe(folds=3))


def test_records_that_cannot_be_used_are_told(clip: Path, colours: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(colours.parent, tmp_path / "set")
    records = json.loads(colours.read_text())
    (copy / records[2]["image"]).unlink()
    shutil.copyfile(copy / records[4]["image"], copy / records[5]["image"])
    answer = {"from": "gpt", "value": "This is a real image."}
    records[6] |= {"conversations": [{"from": "human", "value": "<image>?"}, answer]}
    faults = learn(backbone(clip), write_records(copy, records), tmp_path / "out")
    told = sorted((fault.image, fault.cause) for fault in faults)
    assert told == [
        ("images/2.png", Cause.MISSING_IMAGE), ("images/4.png", Cause.CONFLICT), ("images/5.png", Cause.CONFLICT),
        ("images/6.png", Cause.CONTRADICTS_LABEL),
    ]  # fmt: skip
    assert json.loads((tmp_path / "out" / "training.json").read_text())["images"] == 20


def test_one_class_alone_is_refused_before_the_tower_runs(clip: Path, colours: Path, tmp_path: Path) -> None:
    fakes = [one | {"image": str(colours.parent / one["image"])} for one in json.loads(colours.read_text())[::2]]
    with pytest.raises(
        ConfigurationError, match=r"12 fake and 0 real .*; add images of the missing class, or lower --hold-out"
    ):
        learn(backbone(clip), write_records(tmp_path, fakes), tmp_path / "out")
    assert not (tmp_path / "features").exists()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"resample": 2}, r"resample is 2 and not 3 \(bicubic\), which the worker cannot do; change that field"),
        ({"do_resize": False}, "images are not resized"),
        ({"do_rescale": False}, "values are not divided by 255"),
        ({"crop_size": {"height": 56, "width": 28}}, "give no square"),
        ({"crop_size": {"height": 70, "width": 70}}, "give no square"),
        ({"do_center_crop": False}, "the shortest edge is resized and nothing is cropped"),
    ],
)
def test_a_preprocessing_that_the_worker_cannot_do_is_refused(
    clip: Path, tmp_path: Path, fields: dict[str, object], said: str
) -> None:
    folder = shutil.copytree(clip, tmp_path / "other")
    write_processor(folder, **PROCESSORS["clip"] | fields)
    with pytest.raises(ConfigurationError, match=said):
        backbone(folder)


@pytest.mark.parametrize("kind", ["clip", "siglip", "dinov2", "bilinear"])
def test_images_are_prepared_as_the_backbones_own_processor_does(kind: str, tmp_path: Path) -> None:
    fields = PROCESSORS["vit"] | {"resample": 2} if kind == "bilinear" else PROCESSORS[kind]
    folder = write_processor(tmp_path, **fields)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"")
    base = backbone(folder)
    chance = np.random.default_rng(3).integers(0, 256, (30, 40, 3), np.uint8)
    image = Image.fromarray(chance).resize((150, 110), Image.Resampling.BICUBIC)
    image.save(tmp_path / "image.png")
    form = base.description.preprocessing
    square = decode((tmp_path / "image.png").read_bytes(), edge=form.edge, fit=form.fit, decoding=form.decode)
    ours = Pixels(base.described(HeadRecipe(), "a")).of([square])
    theirs = AutoImageProcessor.from_pretrained(folder, backend="pil")(image, return_tensors="pt")["pixel_values"]
    assert tuple(ours.shape) == (1, 3, EDGE, EDGE)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_towers_that_cannot_have_a_head_are_refused(clip: Path, llava: Path, colours: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is a LLaVA; give --detector, too"):
        backbone(llava)
    with pytest.raises(
        ConfigurationError,
        match="has 3 layers, and not the hidden state 4; set layer in the recipe to a number from 1 to 3",
    ):
        learn(backbone(clip), colours, tmp_path / "out", HeadRecipe(layer=4))
    with pytest.raises(ConfigurationError, match="has 3 layers, and not the hidden state 0"):
        learn(backbone(clip), colours, tmp_path / "out", HeadRecipe(layer=0))
    other = shutil.copytree(clip, tmp_path / "other")
    write_processor(
        other, **PROCESSORS["clip"] | {"size": {"shortest_edge": 70}, "crop_size": {"height": 70, "width": 70}}
    )
    with pytest.raises(
        ConfigurationError, match=r"the tower refuses images as they are prepared.*; set \[input\] edge or"
    ):
        learn(backbone(other), colours, tmp_path / "out")


def test_a_llavas_language_model_is_not_inspected_for_a_head_and_its_checksums_are(
    llava: Path, colours: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(llava, tmp_path / "llava")
    for path in folder.glob("tokenizer*"):
        path.unlink()  # as if its engine were not installed: an inspection of the whole would fail
    settings = Settings(detector=str(folder))
    with pytest.raises(ConfigurationError):
        supply(load_description(settings), settings)
    assert learn(tower_of(folder), colours, tmp_path / "out") == []
    weights = next(folder.glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(ConfigurationError, match=r"the tower in .* cannot be loaded .*fetch it again"):
        learn(tower_of(folder), colours, tmp_path / "damaged")
    with (folder / "detector.toml").open("a") as file:
        file.write(f'[checksums]\n"{weights.name}" = "{"0" * 64}"\n')
    with pytest.raises(ConfigurationError, match=r"has the SHA-256 .* but the description says 0000"):
        tower_of(folder)


def test_the_demos_head_is_learned_from_drawings(tmp_path: Path) -> None:
    folder = learn_demo_head(tmp_path, count=20, seed=5)
    assert served(folder).description.name == "demo-head"
    record = json.loads((folder / "training.json").read_text())
    assert (record["images"] + record["held_out_images"], record["seed"], record["layer"]) == (20, 5, 4)
    assert learn_demo_head(tmp_path, count=20, seed=5) == folder  # nothing is drawn or learned again
