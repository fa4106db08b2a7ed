"""The parts of worker.lab.annotation, each tested alone."""

import hashlib
import json
import threading
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.chat_server import Answer, ScriptedChat, serving
from worker.detector.description import vlm_only
from worker.detector.loading import load_description
from worker.detector.verdicts import Reader
from worker.errors import AnnotationStoppedError, ConfigurationError, MalformedAnswerError, NotAnsweredError
from worker.lab.annotation import prompts as prompts_module
from worker.lab.annotation.answers import (
    AgreedPoint,
    Group,
    Point,
    agreed,
    contradicts_label,
    explanation,
    full_answer,
    read_list,
)
from worker.lab.annotation.costs import Costs, Price, in_words, read_prices
from worker.lab.annotation.endpoint import OPENAI_URL, Address, Endpoint, find_key
from worker.lab.annotation.journal import Answered, Journal
from worker.lab.annotation.pace import Pace
from worker.lab.annotation.prompts import Prompts
from worker.lab.annotation.run import Files
from worker.lab.annotation.start import Options, open_costs
from worker.lab.annotation.stop import Stop
from worker.lab.datasets.records import Record
from worker.settings import Settings

REVISIONS = {"checkpoints-1": "1064d0f2e2fd3350afa27818d419a90e62e6941bf0d3a220d45ecf403cbf9bb2"}
"""The words of a revision never change."""


def record(*, label: int = 0, cate: str | None = "animal") -> Record:
    return Record.model_validate({"image": "a.png", "label": label, "cate": cate, "line": 1})


def test_every_category_has_checkpoints_for_both_labels() -> None:
    prompts = Prompts.shipped()
    assert set(prompts.categories) == {
        "deepfake", "object", "satellite", "animal", "doc", "human", "scene", "general",
    }  # fmt: skip
    texts = {prompts.for_annotator(record(label=label, cate=cate)) for cate in prompts.categories for label in (0, 1)}
    assert len(texts) == 16
    for cate, category in prompts.categories.items():
        assert list(category.fake) == list(category.real)
        for label, checkpoints in enumerate((category.fake, category.real)):
            text = prompts.for_annotator(record(label=label, cate=cate))
            assert all(look_for in text for look_for in checkpoints.values())
    assert prompts.for_annotator(record(cate=None)) == prompts.for_annotator(record(cate="castle"))
    assert [prompts.knows(record(cate=cate)) for cate in ("doc", "castle", "general", None)] == [True, *[False] * 3]


def test_changed_words_need_another_revision() -> None:
    content = prompts_module.FILE.read_bytes()
    assert REVISIONS[Prompts.shipped().revision] == hashlib.sha256(content).hexdigest()


GOOD = '[{"checkpoint": "fur", "observation": " a [bare] patch "}]'


@pytest.mark.parametrize("text", [GOOD, f"```json\n{GOOD}\n```", f"Sure:\n{GOOD}\nThat is all."])
def test_a_list_is_found_in_any_text(text: str) -> None:
    assert read_list(text, Point) == [Point(checkpoint="fur", observation="a [bare] patch")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no JSON list"),
        ("] [", "no JSON list"),
        (GOOD[:-2] + "]", "is not JSON"),
        ('["fur"]', "0: "),
        ('[{"checkpoint": "fur", "observation": " "}]', "0.observation: "),
        ('[{"observation": "x"}]', "0.checkpoint: "),
    ],
)
def test_an_answer_without_such_a_list_is_malformed(text: str, said: str) -> None:
    with pytest.raises(MalformedAnswerError, match=said):
        read_list(text, Point)


def test_characters_that_cannot_be_stored_are_replaced() -> None:
    said = '[{"checkpoint": "hands", "observation": "six\\u0000 fingers \\ud800 here"}]'
    assert read_list(said, Point) == [Point(checkpoint="hands", observation="six fingers \ufffd here")]
    with pytest.raises(MalformedAnswerError):
        read_list('[{"checkpoint": "hands", "observation": "\\u0000"}]', Point)  # no text is left
    with pytest.raises(MalformedAnswerError):
        read_list('["\\u12"]', Point)


def test_points_of_two_annotators_are_kept_and_grouped() -> None:
    point = Point(checkpoint="c", observation="o")

    def made(group: Group, *annotators: int) -> AgreedPoint:
        return AgreedPoint(group=group, observation=f"{group} {annotators}", annotators=frozenset(annotators))

    points = [made(Group.OTHER, 1, 2), made(Group.TEXTURE, 1), made(Group.TEXTURE, 1, 2), made(Group.LIGHTING, 2, 3),
              made(Group.GEOMETRY, 1, 9), made(Group.LIGHTING, 1, 2)]  # fmt: skip
    kept = agreed(points, [[point], [point], []])  # the third annotator saw nothing, so it cannot have made a point
    assert [one.observation for one in kept] == ["lighting (1, 2)", "texture (1, 2)", "other (1, 2)"]
    assert agreed(points[:2], [[point]]) == [points[1], points[0]]
    assert explanation(kept) == "Lighting (1, 2); texture (1, 2); other (1, 2)."


@pytest.mark.parametrize(
    ("label", "explained", "contradicts"),
    [
        (0, "The fur melts; the real problem is the eye.", False),
        (0, "The fur melts; this is a real image.", True),
        (0, "The image is not fake.", True),
        (1, "The grain is even; the light is real.", False),
        (1, "The grain is even; the picture is AI-generated.", True),
    ],
)
def test_an_explanation_must_not_contradict_the_label(label: int, explained: str, contradicts: bool) -> None:
    description = vlm_only(load_description(Settings()), "a test")
    one = record(label=label)
    answer = full_answer(one, explained, description.answer)
    assert answer.startswith("This is a real image. " if label else "This is a fake image. ")
    assert contradicts_label(one, answer, Reader(description)) is contradicts
    assert contradicts_label(record(label=1 - label), answer, Reader(description))


class Clock:
    """A clock that moves only when somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def __call__(self) -> float:
        return self.now


def test_requests_are_spaced_evenly_and_pauses_are_kept() -> None:
    clock = Clock()
    pace = Pace(30, clock.wait, clock)
    turns = []
    for _ in range(3):
        pace.take()
        turns.append(clock.now)
    assert turns == [0, 2, 4]
    pace.pause(60)
    pace.pause(1)
    pace.take()
    assert clock.now == 64
    clock.now = 1000
    pace.take()
    assert clock.now == 1000


def test_a_pause_applies_to_a_request_that_waits_already() -> None:
    clock, paused = Clock(), False

    def wait(seconds: float) -> None:
        nonlocal paused
        if not paused:
            paused = True
            pace.pause(90)
        clock.wait(seconds)

    pace = Pace(30, wait, clock)
    pace.take()
    pace.take()
    assert clock.now == 90


def endpoint(chat: ScriptedChat, pace: Pace, stop: Stop) -> Endpoint:
    return Endpoint(Address("seer-1", chat.url), "k", "KEY", pace, stop, timeout_s=5, max_tokens=64)


def test_retry_after_delays_every_request_to_the_endpoint() -> None:
    clock = Clock()
    pace = Pace(60_000, clock.wait, clock)
    slow = Answer("{}", 429, {"Retry-After": "30", "Retry-After-Ms": "1"})  # the client itself obeys Retry-After-Ms
    with serving(ScriptedChat(lambda asked: Answer("[]") if asked.times else slow)) as chat:
        assert endpoint(chat, pace, Stop()).ask("image 1").text == "[]"
    assert len(chat.asked) == 2
    assert 30 <= clock.now < 31


def test_retries_of_the_client_are_paced_too() -> None:
    clock = Clock()
    down = ScriptedChat(lambda _: Answer("down", 503, {"Retry-After-Ms": "1"}))
    with serving(down) as chat, pytest.raises(NotAnsweredError, match="503"):
        endpoint(chat, Pace(60, clock.wait, clock), Stop()).ask("image 1")
    assert len(chat.asked) == 6
    assert clock.now == pytest.approx(5)


def test_nothing_is_sent_after_a_stop() -> None:
    stop = Stop()
    stop.because(AnnotationStoppedError("first"))
    stop.because(AnnotationStoppedError("second"))
    with serving(ScriptedChat()) as chat:
        with pytest.raises(AnnotationStoppedError, match="first"):
            endpoint(chat, Pace(60, stop.wait), stop).ask("image 1")
        assert not chat.asked
    with pytest.raises(AnnotationStoppedError, match="first"):
        stop.wait(3600)


def test_an_endpoint_that_cannot_be_reached_ends_the_run() -> None:
    with serving(ScriptedChat()) as chat:
        away = endpoint(chat, Pace(60, lambda _: None), Stop())
    away._client = away._client.with_options(max_retries=0)
    with pytest.raises(AnnotationStoppedError, match="cannot be reached"):
        away.ask("image 1")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer("<html>", headers={"Content-Type": "text/html"}), "does not speak the chat completions API"),
        (Answer("{half", headers={"Content-Type": "application/json"}), "not JSON"),
    ],
)
def test_an_answer_that_is_no_completion(answer: Answer, said: str) -> None:
    with serving(ScriptedChat(lambda _: answer)) as chat, pytest.raises(NotAnsweredError, match=said):
        endpoint(chat, Pace(6000, lambda _: None), Stop()).ask("image 1")


@pytest.mark.parametrize("body", ["{}", '{"choices": null}', '{"choices": [{}]}', '{"choices": [{"message": {}}]}'])
def test_fields_that_some_servers_leave_out(body: str) -> None:
    with serving(ScriptedChat(lambda _: Answer(body, headers={"Content-Type": "application/json"}))) as chat:
        reply = endpoint(chat, Pace(6000, lambda _: None), Stop()).ask("image 1")
    assert (reply.text, reply.cut_off, reply.input_tokens, reply.output_tokens) == ("", False, None, None)


def test_half_a_surrogate_pair_is_replaced() -> None:
    body = json.dumps({"choices": [{"message": {"content": "a\ud83d"}}]})
    with serving(ScriptedChat(lambda _: Answer(body, headers={"Content-Type": "application/json"}))) as chat:
        assert endpoint(chat, Pace(6000, lambda _: None), Stop()).ask("image 1").text == "a\ufffd"


def test_addresses() -> None:
    assert Address.parse("gpt-4o", {}) == Address("gpt-4o", OPENAI_URL)
    assert Address.parse("m", {"OPENAI_BASE_URL": "http://own/v1/"}) == Address("m", "http://own/v1")
    assert Address.parse("@cf/m@2@https://host/v1", {}) == Address("@cf/m@2", "https://host/v1")
    for bad in ("", "m@https://me:secret@host/v1", "m@https://host/v1?key=secret"):
        with pytest.raises(ConfigurationError, match="MODEL@BASE_URL") as raised:
            Address.parse(bad, {})
        assert "secret" not in str(raised.value)


def test_the_default_address_is_that_of_openais_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert str(openai.OpenAI(api_key="k", base_url=None).base_url).rstrip("/") == OPENAI_URL


def test_a_key_is_sent_only_to_its_own_endpoint() -> None:
    addresses = [Address("judge", "http://own/v1"), Address("a", OPENAI_URL), Address("b", "http://own/v1"),
                 Address("c", "http://other/v1")]  # fmt: skip
    environment = {"OPENAI_API_KEY": "openai", "FAKESWEEP_ANNOTATION_KEY_2": "own"}
    keys = [find_key(number, addresses, environment) for number in range(4)]
    assert keys == [
        ("own", "FAKESWEEP_ANNOTATION_KEY_2"),
        ("openai", "OPENAI_API_KEY"),
        ("own", "FAKESWEEP_ANNOTATION_KEY_2"),
        ("none", "FAKESWEEP_ANNOTATION_KEY_3"),
    ]
    moved = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "http://other/v1/"}
    assert find_key(3, addresses, moved) == ("k", "OPENAI_API_KEY")
    assert find_key(2, addresses, moved)[0] == "none"
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY is not set"):
        find_key(1, addresses, {})


def answered(**given: Any) -> Answered:
    return Answered.model_validate({"image": "a.png", "step": 1, "model": "m", "text": "[]"} | given)


def test_a_half_last_line_of_the_journal_is_cut_off(tmp_path: Path) -> None:
    path, run = tmp_path / "j.jsonl", {"prompts": "1"}
    with Journal.opened(path, run) as journal:
        journal.add(answered(text="ü\n1"))
        journal.add(answered(step=0))
    whole = path.read_bytes()
    for end in range(len(whole) + 1):
        path.write_bytes(whole[:end])
        with Journal.opened(path, run) as journal:
            kept = list(journal.answers())
            journal.add(answered(text="later"))
        lines = whole[:end].count(b"\n")
        assert kept == [answered(text="ü\n1"), answered(step=0)][: max(0, lines - 1)]
        with Journal.opened(path, run) as journal:
            assert list(journal.answers()) == [*kept, answered(text="later")]


def test_a_journal_gives_the_answers_about_an_image_once(tmp_path: Path) -> None:
    with Journal.opened(tmp_path / "j", {}) as journal:
        for step, text in ((1, "x"), (1, "y"), (0, "z")):
            journal.add(answered(step=step, text=text))
        assert journal.take("a.png") == []  # this run asked for them itself, so they are not given again
    with Journal.opened(tmp_path / "j", {}) as journal:
        assert [one.text for one in journal.take("a.png")] == ["x", "y", "z"]
        assert journal.take("a.png") == []


def test_a_journal_has_one_writer_and_no_bad_lines(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    with Journal.opened(path, {}) as journal:
        journal.add(answered())
        with pytest.raises(ConfigurationError, match="another process"), Journal.opened(path, {}):
            pass
    path.write_text(path.read_text().replace('"step":1', '"step":"x"'))
    with pytest.raises(ConfigurationError, match=r"line 2: .*; remove the line"), Journal.opened(path, {}):
        pass
    path.write_text("hello\n")
    with pytest.raises(ConfigurationError, match="not a journal"), Journal.opened(path, {}):
        pass


def test_costs_by_model_and_in_total() -> None:
    costs = Costs({"m": Price(input=2, output=10)})
    costs.add(answered(input_tokens=1000, output_tokens=100))
    costs.add(answered())
    assert costs.summary()["models"]["m"] == {
        "requests": 2, "input_tokens": 1000, "output_tokens": 100, "without_usage": 1, "usd": 0.003,
    }  # fmt: skip
    assert in_words(costs.summary()) == "2 requests, 1000 tokens in, 100 out, 1 did not say theirs, 0.0030 USD"
    costs.add(answered(model="free", input_tokens=1, output_tokens=1))
    assert costs.summary()["total"]["usd"] is None
    assert in_words(costs.summary()) == "3 requests, 1001 tokens in, 101 out, 1 did not say theirs"


class Watched(threading.Condition):
    """A condition that says when a thread waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.waited = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        self.waited.set()
        return super().wait(timeout)


def test_under_a_limit_requests_wait_for_those_in_flight() -> None:
    costs = Costs({"m": Price(input=1, output=0)}, max_cost=0.06)  # 32,000 tokens each: both cost too much
    costs._changed = watched = Watched()
    order: list[str] = []

    def second() -> None:
        with costs.set_aside("m", 10):
            order.append("second")

    thread = threading.Thread(target=second)
    with costs.set_aside("m", 10):
        thread.start()
        assert watched.waited.wait(30)
        order.append("first")
        costs.add(answered(input_tokens=1000, output_tokens=1))
    thread.join(30)
    assert order == ["first", "second"]


def test_a_first_request_above_the_limit_is_refused() -> None:
    costs = Costs({"m": Price(input=1, output=100)}, max_cost=0.04)
    said = r"0\.0000 USD are spent, and the next request may cost 0\.0420"
    with pytest.raises(AnnotationStoppedError, match=said), costs.set_aside("m", 100):
        pass
    with costs.set_aside("m", 80):
        pass


def priced(**given: Any) -> Options:
    return Options(Path("set.json"), "images", Path("out.json"), ("a/b",), "c", **given)


def test_prices(tmp_path: Path) -> None:
    file = tmp_path / "prices.toml"
    file.write_text('["a/b"]\ninput = 1\noutput = 2\n')
    addresses = [Address("a/b", "http://x/v1"), Address("c", "http://x/v1")]
    costs = open_costs(addresses, priced(prices=file))
    same = open_costs(addresses, priced(input_price=1.0, output_price=2.0, max_cost=5.0))
    same.add(answered(model="c@http://x/v1", input_tokens=1_000_000, output_tokens=1_000_000))
    assert (same.summary()["total"]["usd"], same.summary()["max_usd"]) == (3, 5)
    for model in ("a/b@http://x/v1", "c@http://x/v1"):
        costs.add(answered(model=model, input_tokens=1_000_000, output_tokens=1_000_000))
    assert [used["usd"] for used in costs.summary()["models"].values()] == [3, None]
    bad: dict[str, Any]
    for bad, said in (
        ({"input_price": 1.0}, "give both"),
        ({"output_price": 1.0}, "give both"),
        ({"input_price": 1.0, "output_price": 1.0, "prices": file}, "give only one"),
        ({"max_cost": 1.0, "prices": file}, "--max-cost needs the price of c:"),
        ({"prices": tmp_path / "none"}, "cannot be read"),
    ):
        with pytest.raises(ConfigurationError, match=said):
            open_costs(addresses, priced(**bad))
    file.write_text("[a]\ninput = -1\noutput = 2\n")
    with pytest.raises(ConfigurationError, match=r"a\.input"):
        read_prices(file)


def test_places_of_the_output(tmp_path: Path) -> None:
    dataset = tmp_path / "set.json"
    dataset.write_text(json.dumps([]))
    for bad, said in (("set.json", "dataset itself"), ("x.jsonl", "ends in .json"), ("none/x.json", "no folder")):
        with pytest.raises(ConfigurationError, match=said):
            Files.at(tmp_path / bad, dataset)
    assert Files.at(tmp_path / "o.json", dataset).costs.name == "o.costs.json"
