"""Evaluations with the scripted detector, for which bright images are fake: what they write, and how they continue."""

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.scripted_evaluation import scripted_parts
from worker.errors import ConfigurationError, EngineDeadError, EngineGenerateError, StorageUnavailableError
from worker.lab.datasets.faults import Faults, read_records
from worker.lab.datasets.images import image_ref
from worker.lab.evaluation.compare import compare
from worker.lab.evaluation.evaluate import evaluate_detector, evaluate_records
from worker.lab.evaluation.evaluated import read_evaluated
from worker.lab.evaluation.journal import Journal, read_predictions
from worker.lab.evaluation.perturbations import CLEAN, PERTURBATIONS
from worker.lab.evaluation.run import judge_records
from worker.lab.evaluation.trained import learned
from worker.messages import Explain
from worker.settings import Settings
from worker.testing import InMemoryImageStore, ScriptedEngine

DARK, BRIGHT = 20, 230
EXPLANATION = "The picture is brighter than a camera makes it."


def write_dataset(folder: Path, count: int = 6, *extra: dict[str, Any]) -> Path:
    """Writes `count` images, of which the fakes are bright, but so is the last one. The records are JSON Lines."""
    folder.mkdir(parents=True, exist_ok=True)
    records = []
    for number in range(count):
        level = (DARK if number % 2 else BRIGHT) if number < count - 1 else BRIGHT
        Image.new("RGB", (40, 30), (level, level, 128)).save(folder / f"{number}.png")
        answer = "This is a real image." if number % 2 else f"This is a fake image. {EXPLANATION}"
        conversations = [{"from": "human", "value": "<image>?"}, {"from": "gpt", "value": answer}]
        records.append({"image": f"{number}.png", "label": number % 2, "cate": "doc", "conversations": conversations})
    dataset = folder / "set.jsonl"
    dataset.write_text("".join(f"{json.dumps(one)}\n" for one in (*records, *extra)), encoding="utf-8")
    return dataset


def evaluate(
    dataset: Path, output: Path, engine: ScriptedEngine | None = None, *, strict: bool = False, **changes: Any
) -> dict[str, Any]:
    said: list[str] = changes.pop("said", [])
    resamples = changes.pop("resamples", 2)
    faults = Faults(strict=strict)
    records = read_records(dataset, faults)
    parts = scripted_parts(dataset.parent, faults, engine or ScriptedEngine(), **changes)
    return evaluate_records(
        dataset, records, parts, faults, output, embeddings="none", resamples=resamples, say=said.append
    )


def judge(dataset: Path, output: Path, engine: ScriptedEngine | None = None, **changes: Any) -> int:
    """Judges as an evaluation does before it is killed: without metrics and report.

    Returns how many images are done.
    """
    faults = Faults()
    records = read_records(dataset, faults)
    parts = scripted_parts(dataset.parent, faults, engine or ScriptedEngine(), **changes)
    with Journal.opened(output, {"dataset": "this"}) as journal:
        (*_, done) = judge_records(records, journal, parts)
    return done


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_predictions_metrics_and_faults_are_written(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "set")
    metrics = evaluate(dataset, tmp_path / "out")
    predictions = lines_of(tmp_path / "out" / "predictions.jsonl")
    assert [one["image"] for one in predictions] == [f"{number}.png" for number in range(6)]
    assert predictions[0] | {"score": 0, "log_odds": 0} == {
        "image": "0.png", "sha256": sha256_of(tmp_path / "set" / "0.png"),
        "label": 0, "category": "doc", "generator": None, "perturbation": "clean",
        "verdict": "fake", "score": 0, "log_odds": 0, "answer": f"This is a fake image. {EXPLANATION}",
        "reference": f"This is a fake image. {EXPLANATION}",
    }  # fmt: skip
    assert predictions[0]["score"] == pytest.approx(1 / (1 + 2.718281828459045 ** -predictions[0]["log_odds"]))
    assert [one["verdict"] for one in predictions] == ["fake", "real", "fake", "real", "fake", "fake"]
    assert metrics == json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (metrics["accuracy"], metrics["n"], metrics["records"]) == (pytest.approx(5 / 6), 6, 6)
    assert metrics["confusion"]["real"] == {"fake": 1, "real": 2, "undecided": 0}
    assert metrics["detector"]["name"] == "scripted"
    assert len(metrics["detector"]["fingerprint"]) == len(metrics["dataset"]["sha256"]) == 64
    assert metrics["faults"] == {}
    assert (tmp_path / "out" / "faults.jsonl").read_text() == ""
    assert [one["sha256"] for one in predictions] == [
        sha256_of(tmp_path / "set" / f"{number}.png") for number in range(6)
    ]


def test_faults_are_reported_with_their_lines_and_the_rest_is_evaluated(tmp_path: Path) -> None:
    bad = [
        {"image": "0.png", "label": 0},
        {"image": "9.png", "label": 7},
        {"image": "gone.png", "label": 1},
        {"image": "set.jsonl", "label": 1},
    ]
    dataset = write_dataset(tmp_path / "set", 6, *bad)
    dataset.write_text(dataset.read_text() + "{broken\n")
    said: list[str] = []
    metrics = evaluate(dataset, tmp_path / "out", said=said)
    causes = ["duplicate", "unknown_label", "missing_image", "unreadable_image", "broken_json"]
    found = lines_of(tmp_path / "out" / "faults.jsonl")
    assert [(one["line"], one["cause"]) for one in found] == list(zip(range(7, 12), causes, strict=True))
    assert [one["image"] for one in found] == ["0.png", "9.png", "gone.png", "set.jsonl", None]
    assert all(one["detail"] for one in found)
    assert metrics["faults"] == dict.fromkeys(causes, 1)
    assert (metrics["n"], metrics["accuracy"]) == (6, pytest.approx(5 / 6))
    assert [line.split(":")[:2] for line in said[:-1]] == [
        [f"line {number}", f" {cause}"] for number, cause in zip(range(7, 12), causes, strict=True)
    ]
    assert said[-1].startswith("5 not used (")
    assert "faults.jsonl" in said[-1]


def test_all_faults_are_written_and_the_first_ones_printed(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "set", 2, *({"image": f"gone{n}.png", "label": 1} for n in range(50)))
    said: list[str] = []
    evaluate(dataset, tmp_path / "out", said=said)
    assert len(lines_of(tmp_path / "out" / "faults.jsonl")) == 50
    assert len(said) == 21
    assert said[-1].startswith("50 not used (50 missing_image)")


@pytest.mark.parametrize(
    ("bad", "line"), [({"image": "9.png", "label": 7}, "line 7: unknown_label"), ({"image": "gone.png", "label": 1},
                                                                                "line 7: missing_image")]
)  # fmt: skip
def test_strict_stops_at_the_first_fault(tmp_path: Path, bad: dict[str, Any], line: str) -> None:
    dataset = write_dataset(tmp_path / "set", 6, bad)
    with pytest.raises(ConfigurationError, match=f"--strict: {line}"):
        evaluate(dataset, tmp_path / "out", strict=True)
    assert not (tmp_path / "out" / "metrics.json").exists()
    assert evaluate(dataset, tmp_path / "out")["n"] == 6


def test_unavailable_storage_is_not_a_missing_image(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "set", 2)
    content = (tmp_path / "set" / "0.png").read_bytes()
    uris = [f"s3://b/p/{number}.png" for number in range(2)]
    store = InMemoryImageStore({uris[0]: content, uris[1]: StorageUnavailableError("S3 answered 503")})
    metrics = evaluate(dataset, tmp_path / "out", store=store, images="s3://b/p/")
    assert (metrics["n"], metrics["faults"]) == (1, {"storage_unavailable": 1})
    assert store.fetched == uris
    store.objects[uris[1]] = content
    assert evaluate(dataset, tmp_path / "out", store=store, images="s3://b/p/")["faults"] == {}
    assert [one["image"] for one in lines_of(tmp_path / "out" / "predictions.jsonl")] == ["0.png", "1.png"]


def test_an_image_that_the_engine_refuses(tmp_path: Path) -> None:
    def refuse(image: Image.Image) -> None:
        if image.getpixel((0, 0)) == (DARK, DARK, 128):
            raise EngineGenerateError("no answer")

    metrics = evaluate(write_dataset(tmp_path / "set"), tmp_path / "out", ScriptedEngine(fail=refuse))
    assert (metrics["n"], metrics["faults"]) == (4, {"engine_failed": 2})
    assert lines_of(tmp_path / "out" / "faults.jsonl")[0]["detail"] == "clean: no answer"


def test_a_dataset_without_usable_records_is_an_error(tmp_path: Path) -> None:
    dataset = tmp_path / "set.jsonl"
    dataset.write_text('{"image": "a.png", "label": "?"}\n')
    with pytest.raises(ConfigurationError, match="no record that can be used; the first fault: line 1: unknown_label"):
        evaluate(dataset, tmp_path / "out")
    dataset.write_text('{"image": "a.png", "label": 1}\n')
    with pytest.raises(ConfigurationError, match=r"no image of .* could be judged; the first fault: line 1: missing"):
        evaluate(dataset, tmp_path / "out")
    assert len(lines_of(tmp_path / "out" / "faults.jsonl")) == 1


def test_robustness_leaves_the_metrics_of_clean_images_unchanged(tmp_path: Path) -> None:
    dataset, perturbed = write_dataset(tmp_path / "set"), tuple(PERTURBATIONS)
    clean = evaluate(dataset, tmp_path / "clean")
    found = evaluate(dataset, tmp_path / "out", perturbations=perturbed)
    assert list(found.pop("robustness")) == list(perturbed)
    assert found == clean
    predictions = lines_of(tmp_path / "out" / "predictions.jsonl")
    assert [(one["image"], one["perturbation"]) for one in predictions] == [
        (f"{number}.png", name) for number in range(6) for name in perturbed
    ]
    table = json.loads((tmp_path / "out" / "metrics.json").read_text())["robustness"]
    assert {name: row["n"] for name, row in table.items()} == dict.fromkeys(perturbed, 6)
    assert table["clean"]["accuracy"] == clean["accuracy"]
    assert "FakeVLM paper, FakeClue" in (tmp_path / "out" / "report.html").read_text()
    # Perturbations are applied to what the detector sees. A mirror image has the same brightness.
    scores = {(one["image"], one["perturbation"]): one["score"] for one in predictions}
    assert scores["0.png", "flip"] == scores["0.png", CLEAN] != scores["0.png", "rotate_15"]


def test_robustness_after_a_plain_evaluation_judges_only_new_images(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "set")
    judge(dataset, tmp_path / "out")
    engine = ScriptedEngine()
    assert judge(dataset, tmp_path / "out", engine, perturbations=(CLEAN, "flip")) == 12
    assert sum(engine.calls) == 6
    assert Counter(one["perturbation"] for one in lines_of(tmp_path / "out" / "predictions.jsonl")) == {
        "clean": 6,
        "flip": 6,
    }


def test_a_finished_evaluation_starts_no_engine(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "set")
    first = evaluate(dataset, tmp_path / "out")
    (tmp_path / "out" / "metrics.json").unlink()

    def start() -> ScriptedEngine:
        raise AssertionError("the engine was started")

    assert evaluate(dataset, tmp_path / "out", start=start) == first
    assert (tmp_path / "out" / "metrics.json").exists()


def test_a_file_that_a_kill_cut_anywhere_is_completed_with_the_same_lines(tmp_path: Path) -> None:
    dataset, perturbations = write_dataset(tmp_path / "set"), (CLEAN, "flip", "gaussian_noise_5")
    judge(dataset, tmp_path / "out", perturbations=perturbations)
    file = tmp_path / "out" / "predictions.jsonl"
    whole = file.read_bytes()
    for cut in range(0, len(whole), 61):
        file.write_bytes(whole[:cut])
        assert judge(dataset, tmp_path / "out", perturbations=perturbations) == 18
        assert file.read_bytes() == whole, cut


def test_predictions_from_before_the_engine_died_are_kept(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "set", 40)

    def die(image: Image.Image) -> None:
        seen.append(1)
        if len(seen) > 20:
            raise EngineDeadError("gone")

    seen: list[int] = []
    with pytest.raises(EngineDeadError):
        judge(dataset, tmp_path / "out", ScriptedEngine(fail=die), threads=1)
    assert len(lines_of(tmp_path / "out" / "predictions.jsonl")) == 16
    engine = ScriptedEngine()
    assert judge(dataset, tmp_path / "out", engine) == 40
    assert sum(engine.calls) == 24


def test_another_evaluation_in_the_folder_is_refused(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "set")
    evaluate(dataset, tmp_path / "out")
    with pytest.raises(ConfigurationError, match=r"--output: .* another evaluation \(explain differ"):
        evaluate(dataset, tmp_path / "out", explain=Explain.NONE)
    write_dataset(tmp_path / "set", 4)
    with pytest.raises(ConfigurationError, match=r"another evaluation \(dataset differ"):
        evaluate(dataset, tmp_path / "out")


@pytest.mark.parametrize("again", ["{0}/", "{0}/../set", "{0}/."])
def test_another_spelling_of_a_folder_is_the_same_evaluation(again: str, tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "set")
    evaluate(dataset, tmp_path / "out", images=str(tmp_path / "set"))
    assert evaluate(dataset, tmp_path / "out", images=again.format(tmp_path / "set"))["images"] == str(tmp_path / "set")


def test_an_evaluation_names_the_datasets_that_its_detector_was_trained_on(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "set")
    digest = hashlib.sha256(dataset.read_bytes()).hexdigest()
    evaluate(dataset, tmp_path / "plain")
    evaluate(dataset, tmp_path / "trained", trained_on=(digest,))
    plain, trained = (read_evaluated(tmp_path / name) for name in ("plain", "trained"))
    assert "trained_on" not in json.loads((tmp_path / "plain" / "run.json").read_text())
    assert not list(learned(plain))
    (warning,) = learned(trained, plain)
    assert warning.startswith(f"{tmp_path}/trained is on the dataset that scripted was trained on")
    assert warning in compare(trained, plain).warnings


def test_the_output_is_checked_before_the_detector_is_loaded(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "set")
    file, nothing = tmp_path / "file", Settings(model="/no/such/model")
    file.write_text("")
    store = InMemoryImageStore({f"s3://b/{n}.png": (tmp_path / "set" / f"{n}.png").read_bytes() for n in range(6)})
    evaluate(dataset, tmp_path / "out", images="s3://b", store=store)
    for output, said in (
        (file, "file is a file, not a folder"),
        (file / "x", "file is a file, not a folder"),
        (tmp_path / "out", r"another evaluation \(images differ"),
    ):
        with pytest.raises(ConfigurationError, match=f"--output: .*{said}"):
            evaluate_detector(dataset, str(dataset.parent), nothing, output)


def test_a_folder_that_no_evaluation_wrote(tmp_path: Path) -> None:
    for name, text, complaint in (
        ("run.json", "half {", "not what an evaluation writes"),
        ("run.json", "[]", "not what an evaluation writes"),
        ("predictions.jsonl", "", "unknown origin"),
    ):
        folder = tmp_path / complaint
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(text)
        with pytest.raises(ConfigurationError, match=complaint), Journal.opened(folder, {"a": 1}):
            pass


def test_an_error_in_a_prediction_names_its_line(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "set")
    judge(dataset, tmp_path / "out")
    file = tmp_path / "out" / "predictions.jsonl"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], lines[1].replace('"label":1', '"label":5'), *lines[2:]]) + "\n")
    with pytest.raises(ConfigurationError, match=r"predictions.jsonl, line 2: label"):
        judge(dataset, tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "value"),
    [("score", "7.5"), ("score", "NaN"), ("score", "-0.1"), ("log_odds", "Infinity"), ("log_odds", "1e308"),
     ("log_odds", "NaN"), ("sha256", '"abc"')],
)  # fmt: skip
def test_an_impossible_number_in_a_prediction_names_its_line(name: str, value: str, tmp_path: Path) -> None:
    line = json.dumps(
        {"image": "a.png", "label": 1, "verdict": "real", "score": 0.5, "answer": "This is a real image."}
    )
    file = tmp_path / "predictions.jsonl"
    file.write_text(f'{line}\n{line[:-1]}, "{name}": {value}}}\n')
    with pytest.raises(ConfigurationError, match=f"predictions.jsonl, line 2: {name}: "):
        read_predictions(file)


def test_the_report_says_that_there_is_no_interval(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "set")
    evaluate(dataset, tmp_path / "out", resamples=0)
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("<span>no interval</span>") == 6
    assert page.count("<span>skipped</span>") == 1  # that of the sentence embeddings


def test_the_report_says_that_no_error_was_seen(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "set", 5)
    metrics = evaluate(dataset, tmp_path / "out")
    assert metrics["accuracy"] == 1
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("<span>no error seen: no interval</span>") >= 5
    assert "100.0 – 100.0" not in page


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with (
        Journal.opened(tmp_path, {"a": 1}),
        pytest.raises(ConfigurationError, match="another process writes"),
        Journal.opened(tmp_path, {"a": 1}),
    ):
        pass


def test_without_explanations_answers_end_after_the_verdict(tmp_path: Path) -> None:
    judge(write_dataset(tmp_path / "set"), tmp_path / "out", explain=Explain.NONE)
    assert lines_of(tmp_path / "out" / "predictions.jsonl")[0]["answer"] == "This is a fake image."


def test_names_are_escaped_in_the_report(tmp_path: Path) -> None:
    hostile = {"image": "<script>alert(1)</script>\u202egnp", "label": 1}
    dataset = write_dataset(tmp_path / "set", 2, hostile)
    dataset.write_text(dataset.read_text().replace('"cate": "doc"', '"cate": "<b>doc</b>"'))
    evaluate(dataset, tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<script" not in page
    assert "\u202e" not in page
    assert "&lt;b&gt;doc&lt;/b&gt;" in page
    assert "⟨U+202E⟩" in page
    assert "default-src 'none'" in page
    assert page.count("<svg") == 4
    assert "var(--fake)" in page
    assert "#01010" not in page


def test_the_address_of_an_image() -> None:
    assert image_ref("a b.png", "/data").uri == "file:///data/a%20b.png"
    assert image_ref("a b.png", "s3://bucket/prefix/").uri == "s3://bucket/prefix/a b.png"
    assert image_ref("s3://other/a.png", "/data").uri == "s3://other/a.png"
    assert image_ref("file:///a.png", "s3://bucket").uri == "file:///a.png"
