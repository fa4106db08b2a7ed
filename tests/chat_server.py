"""An OpenAI-compatible endpoint with scripted answers, over HTTP, and images that it can tell apart.

Image n has one grey level. The answers of annotators contain its number ("image 7"), and so does the aggregator's
request.
"""

import base64
import io
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from PIL import Image

ANNOTATORS, AGGREGATOR = ("seer-1", "seer-2", "seer-3"), "judge"


@dataclass(frozen=True)
class Asked:
    """A request: its model, image, key and text. `times`: how many requests for this model and image came before."""

    model: str
    image: int
    times: int
    key: str
    text: str
    body: dict[str, Any]

    @property
    def step(self) -> int:
        """The step's number in the journal."""
        return 0 if self.model == AGGREGATOR else ANNOTATORS.index(self.model) + 1


@dataclass(frozen=True)
class Answer:
    """What is sent back. `text` is the answer; with another status or a content type, it is the whole body.

    With `hang`, nothing is sent.
    """

    text: str
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    hang: bool = False
    usage: tuple[int, int] | None = (1000, 100)
    finish_reason: str = "stop"


def scripted(asked: Asked) -> Answer:
    """The answers of good annotators and a good aggregator.

    The latter also gives one point that only one annotator made.
    """
    if asked.model != AGGREGATOR:
        points = [
            {"checkpoint": "texture", "observation": f"the fur of image {asked.image} is smeared"},
            {"checkpoint": "colour", "observation": f"only {asked.model} sees this"},
        ]
        return Answer(f"Here it is:\n```json\n{json.dumps(points)}\n```")
    smeared = f"the fur of image {asked.image} is smeared;\nat its ears."
    agreed: list[dict[str, Any]] = [
        {"group": "texture", "observation": smeared, "annotators": [1, 3]},
        {"group": "geometry", "observation": "only one sees this", "annotators": [3, 3, 9]},
        {"group": "lighting", "observation": "the shadow falls upwards", "annotators": ["1", 2, 3]},
    ]
    return Answer(json.dumps(agreed))


def explained(image: int) -> str:
    """The explanation that must result from scripted() for a fake image."""
    return f"This is a fake image. The shadow falls upwards; the fur of image {image} is smeared, at its ears."


class ScriptedChat:
    """The server's script, and the requests that came.

    `before` and `after` are called around each answer, with its number.
    """

    def __init__(self, script: Callable[[Asked], Answer] = scripted) -> None:
        self.script = script
        self.asked: list[Asked] = []
        self.before: Callable[[int], object] = lambda _number: None
        self.after: Callable[[int], object] = lambda _number: None
        self.in_flight = self.most_in_flight = 0
        self.url = ""
        self.closing = threading.Event()
        self._lock = threading.Lock()

    @property
    def steps(self) -> list[tuple[int, int]]:
        """(image, step) of each request, in order."""
        return [(asked.image, asked.step) for asked in self.asked]

    def take(self, body: dict[str, Any], key: str) -> tuple[int, Asked]:
        text, image = _read(body["messages"][0]["content"])
        with self._lock:
            times = sum(one.model == body["model"] and one.image == image for one in self.asked)
            asked = Asked(body["model"], image, times, key, text, body)
            self.asked.append(asked)
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            return len(self.asked), asked

    def finished(self) -> None:
        with self._lock:
            self.in_flight -= 1


def _read(content: str | list[dict[str, Any]]) -> tuple[str, int]:
    if isinstance(content, str):
        found = re.search(r"image (\d+)", content)
        return content, int(found[1]) if found else -1
    text, picture = content
    return text["text"], round((opened(picture["image_url"]["url"]).getpixel((0, 0))[0] - 4) / 8)  # type: ignore[index]


def opened(data_url: str) -> Image.Image:
    """Returns the picture in a data URL."""
    return Image.open(io.BytesIO(base64.b64decode(data_url.removeprefix("data:image/jpeg;base64,")))).convert("RGB")


def write_dataset(folder: Path, count: int, **fields: Any) -> Path:
    """Writes `count` fake animals to folder/images. Returns the path of their JSON file."""
    (folder / "images").mkdir()
    records = []
    for number in range(count):
        name = f"{number}.png"
        Image.new("RGB", (64, 48), (8 * number + 4,) * 3).save(folder / "images" / name)
        records.append({"image": name, "label": 0, "cate": "animal", "width": 64, "height": 48} | fields)
    (folder / "set.json").write_text("[\n" + ",\n".join(map(json.dumps, records)) + "\n]")
    return folder / "set.json"


@contextmanager
def serving(chat: ScriptedChat) -> Iterator[ScriptedChat]:
    """Serves it over HTTP. `chat.url` is the base URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert self.path == "/v1/chat/completions"
            number, asked = chat.take(body, self.headers["Authorization"].removeprefix("Bearer "))
            try:
                chat.before(number)
                self._answer(chat.script(asked), asked)
                chat.after(number)
            finally:
                chat.finished()

        def _answer(self, answer: Answer, asked: Asked) -> None:
            if answer.hang:
                chat.closing.wait()
                self.close_connection = True
                return
            plain = answer.status != 200 or "Content-Type" in answer.headers
            data = (answer.text if plain else _completion(answer, asked)).encode()
            self.send_response(answer.status)
            for name, value in ({"Content-Type": "application/json"} | answer.headers).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Ignores the errors of clients that are killed, or that stop waiting."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    chat.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield chat
    finally:
        chat.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


def _completion(answer: Answer, asked: Asked) -> str:
    message = {"role": "assistant", "content": answer.text}
    body: dict[str, Any] = {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": asked.model,
        "choices": [{"index": 0, "message": message, "finish_reason": answer.finish_reason}],
    }
    if answer.usage:
        tokens = {"prompt_tokens": answer.usage[0], "completion_tokens": answer.usage[1]}
        body["usage"] = tokens | {"total_tokens": sum(answer.usage)}
    return json.dumps(body)
