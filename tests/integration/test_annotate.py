"""`fakesweep annotate` against a scripted endpoint over HTTP."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.chat_server import AGGREGATOR, ANNOTATORS, Answer, Asked, ScriptedChat, explained, opened, scripted, serving
from tests.chat_server import write_dataset as write
from tests.processes import ROOT, fakesweep
from worker.errors import AnnotationStoppedError, ConfigurationError
from worker.lab.annotation.start import Options, annotate_as_asked
from worker.settings import Settings

KEY = "sk-secret-of-the-tests-0123456789"
ENVIRONMENT = {f"FAKESWEEP_ANNOTATION_KEY_{number}": KEY for number in range(4)}
AT_ONCE = {"Retry-After-Ms": "1"}


@pytest.fixture
def chat() -> Iterator[ScriptedChat]:
    with serving(ScriptedChat()) as chat:
        yield chat


def options(dataset: Path, chat: ScriptedChat, **given: Any) -> Options:
    values: dict[str, Any] = {
        "dataset": dataset,
        "images": str(dataset.parent / "images"),
        "output": dataset.parent / "out.json",
        "annotators": tuple(f"{model}@{chat.url}" for model in ANNOTATORS),
        "aggregator": f"{AGGREGATOR}@{chat.url}",
        "requests_per_minute": 1_000_000,
    }
    return Options(**(values | given))


def annotate(dataset: Path, chat: ScriptedChat, **given: Any) -> tuple[dict[str, Any], list[str]]:
    """The figures, and the warnings about faults."""
    told: list[str] = []
    wanted = options(dataset, chat, **given)
    done = annotate_as_asked(wanted, Settings(), ENVIRONMENT, warn=told.append, tell=lambda *_: None)
    return done, told


def answers(dataset: Path, name: str = "out.json") -> list[str]:
    return [record["conversations"][1]["value"] for record in json.loads((dataset.parent / name).read_text())]


def command(dataset: Path, chat: ScriptedChat, *more: str, name: str = "out.json") -> list[str]:
    folder = dataset.parent
    arguments = ["annotate", str(dataset), "--images", str(folder / "images"), "--output", str(folder / name)]
    arguments += [part for model in ANNOTATORS for part in ("--annotator", f"{model}@{chat.url}")]
    return [*arguments, "--aggregator", f"{AGGREGATOR}@{chat.url}", "--requests-per-minute", "1000000", *more]


def test_the_whole_command(tmp_path: Path, chat: ScriptedChat) -> None:
    turns = [{"from": "human", "value": "<image>Real or not?"}, {"from": "gpt", "value": "old"}]
    dataset = write(tmp_path, 3, conversations=turns, family="grid \ud83d")
    priced = ("--input-price", "2", "--output-price", "10", "--json")
    done = fakesweep(*command(dataset, chat, *priced), environment=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out.json").read_text()) == [
        {
            "image": f"{number}.png",
            "label": 0,
            "cate": "animal",
            "width": 64,
            "height": 48,
            "family": "grid \ud83d",
            "conversations": [turns[0], {"from": "gpt", "value": explained(number)}],
        }
        for number in range(3)
    ]
    figures = json.loads(done.stdout)
    assert (figures["records"], figures["annotated"], figures["faults"]) == (3, 3, {})
    assert figures["agreement"] == "two or more annotators"
    used = {"requests": 3, "input_tokens": 3000, "output_tokens": 300, "without_usage": 0, "usd": 0.009}
    assert figures["costs"]["models"][f"seer-1@{chat.url}"] == used
    assert figures["costs"]["total"] == used | {
        "requests": 12, "input_tokens": 12000, "output_tokens": 1200, "usd": 0.036,
    }  # fmt: skip
    assert json.loads((tmp_path / "out.costs.json").read_text()) == figures["costs"]
    everything = done.stdout + done.stderr + "".join(path.read_text() for path in tmp_path.glob("*.json*"))
    assert KEY not in everything


def test_annotators_get_the_image_and_the_prompt(tmp_path: Path, chat: ScriptedChat) -> None:
    from PIL import Image

    dataset = write(tmp_path, 1, label=1, cate="doc")
    Image.new("RGB", (3000, 1500), (4, 4, 4)).save(tmp_path / "images" / "0.png")
    annotate(dataset, chat)
    *seers, judge = chat.asked
    assert [asked.model for asked in chat.asked] == [*ANNOTATORS, AGGREGATOR]
    for asked in seers:
        assert opened(asked.body["messages"][0]["content"][1]["image_url"]["url"]).size == (1024, 512)
        assert "a document" in asked.text
        assert "known to be real" in asked.text
        assert "straight baselines" in asked.text
        assert asked.body["max_tokens"] == 1500
        assert asked.key == KEY
    assert "only seer-2 sees this" in judge.text
    assert "known to be real" in judge.text
    assert answers(dataset)[0].startswith("This is a real image. ")
    (record,) = json.loads((tmp_path / "out.json").read_text())
    assert record["conversations"][0]["value"] == "<image>Does the image looks real/fake?"


def test_unknown_categories_get_the_general_prompt_and_are_counted(tmp_path: Path, chat: ScriptedChat) -> None:
    done, _ = annotate(write(tmp_path, 2, cate="castle"), chat)
    assert done["general_prompt"] == 2
    assert "no stated category" in chat.asked[0].text


def test_images_in_s3_are_annotated(tmp_path: Path, chat: ScriptedChat, bucket: str, s3_environment: str) -> None:
    dataset = write(tmp_path, 2)
    for path in (tmp_path / "images").iterdir():
        boto3.client("s3", endpoint_url=s3_environment).upload_file(str(path), bucket, f"set/{path.name}")
        path.unlink()
    annotate(dataset, chat, images=f"s3://{bucket}/set/")
    assert answers(dataset) == [explained(0), explained(1)]


def test_unavailable_storage_is_not_called_a_missing_image(
    tmp_path: Path, chat: ScriptedChat, s3_environment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = write(tmp_path, 2)
    record = {"image": "s3://b/away.png", "label": 0}
    dataset.write_text(json.dumps([*json.loads(dataset.read_text()), record]))
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    done, _ = annotate(dataset, chat)
    assert (done["annotated"], done["faults"]) == (2, {"storage_unavailable": 1})


def test_what_is_finished_is_not_asked_again(tmp_path: Path, chat: ScriptedChat) -> None:
    dataset = write(tmp_path, 3)
    first, _ = annotate(dataset, chat, limit=2)
    assert len(chat.asked) == 8
    second, _ = annotate(dataset, chat)
    assert len(chat.asked) == 12
    written = (tmp_path / "out.json").read_bytes()
    third, _ = annotate(dataset, chat)
    assert len(chat.asked) == 12
    assert (tmp_path / "out.json").read_bytes() == written
    assert third["costs"] == second["costs"] != first["costs"]


def test_a_run_with_other_options_does_not_continue_the_journal(tmp_path: Path, chat: ScriptedChat) -> None:
    dataset = write(tmp_path, 2)
    annotate(dataset, chat)
    with pytest.raises(ConfigurationError, match=r"annotators was .*seer-3.*; give another --output"):
        annotate(dataset, chat, annotators=(f"seer-1@{chat.url}",))
    journal = tmp_path / "out.journal.jsonl"
    journal.write_text(journal.read_text().replace('"prompts": "checkpoints-', '"prompts": "old-', 1))
    with pytest.raises(ConfigurationError, match="prompts was old-1, is checkpoints-1"):
        annotate(dataset, chat)
    assert len(chat.asked) == 8


def test_temporary_errors_are_tried_again(tmp_path: Path, chat: ScriptedChat) -> None:
    troubles = {
        0: Answer('{"error": {"message": "slow down"}}', 429, {"Retry-After": "1"}),
        1: Answer("oops", 500, AT_ONCE),
        2: Answer("", hang=True),
    }
    chat.script = lambda asked: troubles[asked.image] if asked.step == 1 and not asked.times else scripted(asked)
    dataset = write(tmp_path, 3)
    done, told = annotate(dataset, chat, timeout_s=1)
    assert (done["annotated"], told) == (3, [])
    assert [chat.steps.count((image, 1)) for image in range(3)] == [2, 2, 2]


NO_LIST = Answer("I cannot say.")
CUT = Answer('[{"checkpoint": "fur"}]', finish_reason="length")
DOWN = Answer("down", 503, AT_ONCE)
REFUSED = Answer('{"error": {"message": "not such images"}}', 400)
OPPOSITE = [{"group": "other", "observation": "this is a real image and image 7 is fine", "annotators": [1, 2]}]
ONE_SAW = [{"group": "other", "observation": "a tail", "annotators": [2]}]
FAULTS: dict[tuple[int, int], Answer] = {
    (3, 2): REFUSED,
    (4, 2): DOWN,
    (5, 2): NO_LIST,
    (7, 0): Answer(json.dumps(OPPOSITE)),
    (8, 0): Answer(json.dumps(ONE_SAW)),
    (9, 3): Answer("[]"),
}


def faulty(asked: Asked) -> Answer:
    """Gives a faulty answer every time at the places above, and twice at one more."""
    if (asked.image, asked.step) == (6, 2) and asked.times < 2:
        return (CUT, Answer(""))[asked.times]
    return FAULTS.get((asked.image, asked.step)) or scripted(asked)


def with_faults(tmp_path: Path) -> Path:
    dataset = write(tmp_path, 10)
    (tmp_path / "images" / "1.png").unlink()
    (tmp_path / "images" / "2.png").write_bytes(b"no image")
    dataset.write_text(dataset.read_text().replace("]", ',{"image": "x.png", "label": 5}\n]'))
    return dataset


def test_faults_are_named_with_their_line_and_other_records_are_annotated(tmp_path: Path, chat: ScriptedChat) -> None:
    chat.script = faulty
    dataset = with_faults(tmp_path)
    done, told = annotate(dataset, chat)
    # The third annotator saw nothing in image 9, so it does not count as one who saw the fur.
    assert answers(dataset) == [explained(0), explained(6), "This is a fake image. The shadow falls upwards."]
    named = {line.split(": ")[1]: line for line in told}
    assert {cause: line.split(": ")[0] for cause, line in named.items()} == {
        "missing_image": "line 3",
        "unreadable_image": "line 4",
        "refused": "line 5",
        "not_answered": "line 6",
        "malformed": "line 7",
        "contradicts_label": "line 9",
        "nothing_agreed": "line 10",
        "unknown_label": "line 12",
    }
    assert "not such images" in named["refused"]
    assert "3 times, the last: no JSON list in 'I cannot say.'" in named["malformed"]
    assert done["faults"] == dict.fromkeys(sorted(named), 1)
    written = [json.loads(line) for line in (tmp_path / "out.faults.jsonl").read_text().splitlines()]
    assert [(fault["line"], fault["cause"]) for fault in written][0:2] == [
        (3, "missing_image"),
        (4, "unreadable_image"),
    ]
    assert len(written) == 8
    # A later run asks again what got no answer, and nothing else.
    chat.asked.clear()
    chat.script = scripted
    (again, _) = annotate(dataset, chat)
    assert sorted(chat.steps) == sorted((image, step) for image in (3, 4) for step in (2, 3, 0))
    assert again["annotated"] == 5


def test_strict_stops_before_anything_is_paid(tmp_path: Path, chat: ScriptedChat) -> None:
    dataset = with_faults(tmp_path)
    with pytest.raises(ConfigurationError, match="--strict: line 12: unknown_label"):
        annotate(dataset, chat, strict=True)
    assert not chat.asked
    assert "unknown_label" in (tmp_path / "out.faults.jsonl").read_text()


def test_strict_stops_at_a_fault_of_an_endpoint(tmp_path: Path, chat: ScriptedChat) -> None:
    chat.script = lambda asked: REFUSED if asked.image >= 1 else scripted(asked)
    with pytest.raises(ConfigurationError, match="--strict: line 3: refused"):
        annotate(write(tmp_path, 10), chat, strict=True, concurrency=1)
    assert len(chat.asked) < 10
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize(
    ("status", "said"), [(401, "refuses the key; set FAKESWEEP_ANNOTATION_KEY_3"), (404, "is not there (404)")]
)
def test_a_wrong_key_or_model_stops_the_command_at_once(
    tmp_path: Path, chat: ScriptedChat, status: int, said: str
) -> None:
    wrong = Answer(json.dumps({"error": {"message": f"wrong: {KEY}"}}), status)
    chat.script = lambda asked: wrong if asked.model == "seer-3" else scripted(asked)
    done = fakesweep(*command(write(tmp_path, 10), chat, "--concurrency", "2"), environment=ENVIRONMENT)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.strip().count("\n") == 0
    assert said in done.stderr
    assert f"seer-3@{chat.url}" in done.stderr
    assert KEY not in done.stderr
    assert len(chat.asked) <= 12  # the requests that were in flight
    assert not (tmp_path / "out.json").exists()


def test_a_used_up_quota_stops_the_command_and_a_later_run_continues(tmp_path: Path, chat: ScriptedChat) -> None:
    spent = Answer('{"error": {"message": "quota"}}', 429, {"Retry-After": "3600"})
    chat.script = lambda asked: spent if len(chat.asked) > 6 else scripted(asked)
    dataset = write(tmp_path, 4)
    with pytest.raises(
        AnnotationStoppedError, match=r"accepts no more requests now .*quota.*; run the same command later"
    ):
        annotate(dataset, chat, concurrency=1)
    assert len(chat.asked) == 7
    chat.script = scripted
    annotate(dataset, chat)
    assert len(chat.asked) == 7 + 10
    assert answers(dataset) == [explained(image) for image in range(4)]


def test_an_endpoint_that_refuses_everything_stops_the_command(tmp_path: Path, chat: ScriptedChat) -> None:
    chat.script = lambda _: Answer('{"error": {"message": "no images here"}}', 400)
    with pytest.raises(AnnotationStoppedError, match=r"10 records in a row failed, the last: .*no images here"):
        annotate(write(tmp_path, 30), chat, concurrency=1)
    assert len(chat.asked) < 15


def test_nothing_annotated_is_a_failure(tmp_path: Path, chat: ScriptedChat) -> None:
    chat.script = lambda _: Answer("[]")
    dataset = write(tmp_path, 2)
    with pytest.raises(AnnotationStoppedError, match=r"nothing was annotated: \{'nothing_agreed': 2\}"):
        annotate(dataset, chat)
    assert len(chat.asked) == 6  # three annotators per image; the aggregator is not asked
    assert not (tmp_path / "out.json").exists()


def test_one_annotator_needs_no_agreement_and_the_figures_say_so(tmp_path: Path, chat: ScriptedChat) -> None:
    points = [{"group": "other", "observation": "a tail of image 0", "annotators": [1]}]
    chat.script = lambda asked: Answer(json.dumps(points)) if asked.model == AGGREGATOR else scripted(asked)
    dataset = write(tmp_path, 1)
    done, _ = annotate(dataset, chat, annotators=(f"seer-1@{chat.url}",))
    assert answers(dataset) == ["This is a fake image. A tail of image 0."]
    assert done["agreement"] == "none: there is one annotator"
    assert "There is one annotator" in chat.asked[-1].text


def test_the_cost_limit_is_never_exceeded_and_can_be_raised(tmp_path: Path, chat: ScriptedChat) -> None:
    dataset = write(tmp_path, 6)
    priced = {"input_price": 1.0, "output_price": 10.0, "max_tokens": 200}  # 0.002 USD per request
    annotate(dataset, chat, limit=1, **priced)
    (tmp_path / "out.json").unlink()
    with pytest.raises(AnnotationStoppedError, match=r"before --max-cost 0.04 is exceeded: 0.0\d+ USD are spent"):
        annotate(dataset, chat, max_cost=0.04, **priced)
    spent = json.loads((tmp_path / "out.costs.json").read_text())["total"]["usd"]
    assert 0.03 < spent <= 0.04
    assert spent == pytest.approx(0.002 * len(chat.asked))
    assert not (tmp_path / "out.json").exists()
    annotate(dataset, chat, max_cost=1, **priced)
    assert len(chat.asked) == 24
    assert answers(dataset) == [explained(image) for image in range(6)]


def test_a_cost_limit_needs_usage(tmp_path: Path, chat: ScriptedChat) -> None:
    chat.script = lambda asked: Answer(scripted(asked).text, usage=None)
    dataset = write(tmp_path, 2)
    with pytest.raises(AnnotationStoppedError, match="does not say how many tokens"):
        annotate(dataset, chat, input_price=1.0, output_price=1.0, max_cost=1.0, concurrency=1)
    assert len(chat.asked) == 4  # seer-1's second request is the first whose cost cannot be limited
    done, _ = annotate(dataset, chat)
    assert done["costs"]["total"]["without_usage"] == 8


def test_as_many_images_at_once_as_asked_for(tmp_path: Path, chat: ScriptedChat) -> None:
    meeting, fourth = threading.Barrier(3), threading.Event()

    def before(number: int) -> None:
        if number <= 3:
            meeting.wait(60)
            fourth.wait(1)  # set only when too many are in flight
        else:
            fourth.set()

    chat.before = before
    annotate(write(tmp_path, 9), chat, concurrency=3)
    assert chat.most_in_flight == 3


def test_without_the_client_one_line_says_what_to_install(tmp_path: Path, chat: ScriptedChat) -> None:
    code = "import sys, producers.__main__ as fakesweep; assert 'openai' not in sys.modules\n"
    code += "sys.modules['openai'] = None; fakesweep.main()"
    arguments = command(write(tmp_path, 1), chat)
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.strip().endswith("install fakesweep[annotate]")
    assert done.stderr.count("\n") == 1


def killed_run(dataset: Path, chat: ScriptedChat, chance: random.Random) -> bool:
    """Kills the command when a random request has arrived, or was answered. Returns whether it came to that."""
    process = subprocess.Popen(
        [sys.executable, "-m", "producers", *command(dataset, chat, "--concurrency", "3")],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, **ENVIRONMENT},
    )  # fmt: skip
    fatal = len(chat.asked) + chance.randint(1, 14)
    moment = chance.choice(("before", "after"))
    setattr(chat, moment, lambda number: process.kill() if number == fatal else None)
    process.wait(200)
    chat.before = chat.after = lambda _number: None
    return process.returncode == -signal.SIGKILL


def journalled(path: Path) -> list[tuple[int, int]]:
    """(image, step) of each answer on disk. An incomplete last line does not count."""
    content = path.read_text() if path.exists() else ""
    lines = [json.loads(line) for line in content[: content.rfind("\n") + 1].splitlines()[1:]]
    return [(int(line["image"].split(".")[0]), line["step"]) for line in lines]


@pytest.mark.parametrize("seed", [1, 2])
def test_a_killed_command_asks_nothing_again_that_is_on_disk(tmp_path: Path, chat: ScriptedChat, seed: int) -> None:
    chance = random.Random(seed)
    dataset, kills = write(tmp_path, 12), 0
    journal = tmp_path / "out.journal.jsonl"
    for _ in range(3):
        on_disk, start = journalled(journal), len(chat.asked)
        kills += killed_run(dataset, chat, chance)
        assert not set(chat.steps[start:]) & set(on_disk)
        assert not (tmp_path / "out.json").exists()
    assert kills == 3
    on_disk, start = journalled(journal), len(chat.asked)
    done = fakesweep(*command(dataset, chat), environment=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    assert not set(chat.steps[start:]) & set(on_disk)
    assert sorted(journalled(journal)) == [(image, step) for image in range(12) for step in range(4)]
    # At most three requests are in flight, so at most three are asked again after each kill.
    assert len(chat.asked) - 48 <= 3 * kills
    with serving(ScriptedChat()) as other:
        annotate(dataset, other, output=tmp_path / "whole.json")
    assert (tmp_path / "out.json").read_bytes() == (tmp_path / "whole.json").read_bytes()
