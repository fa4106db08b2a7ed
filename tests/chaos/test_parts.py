"""Each part of the suite causes the fault that it says."""

import io
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from PIL import Image

from tests.chaos.bucket import MISBEHAVIOURS, NAME, REASONS, Bucket, serving_bucket
from tests.chaos.clock import Clock
from tests.chaos.disk import small_disk
from tests.chaos.images import Picture
from tests.chaos.services import MissingError
from tests.chaos.worker import FailingEngine
from worker.detector.engine import Completion
from worker.errors import EngineDeadError, EngineGenerateError
from worker.testing import brightness

IMAGE = Image.new("RGB", (16, 16))


@pytest.fixture
def engine(tmp_path: Path) -> FailingEngine:
    return FailingEngine(tmp_path, 0, 0.3)


def test_the_engine_fails_one_request(engine: FailingEngine, tmp_path: Path) -> None:
    (tmp_path / "fail").touch()
    first, second = engine.complete([IMAGE, IMAGE])
    assert isinstance(first, EngineGenerateError)
    assert isinstance(second, Completion)
    assert not list(tmp_path.iterdir())


def test_the_engine_dies(engine: FailingEngine, tmp_path: Path) -> None:
    (tmp_path / "die").touch()
    with pytest.raises(EngineDeadError):
        engine.complete([IMAGE])
    with pytest.raises(EngineDeadError):
        engine.check()


def test_the_engine_hangs_and_its_watch_notices(engine: FailingEngine, tmp_path: Path) -> None:
    engine.complete([IMAGE])
    (tmp_path / "hang").touch()
    failed = threading.Event()

    def hang() -> None:
        with pytest.raises(EngineDeadError):
            engine.complete([IMAGE])
        failed.set()

    threading.Thread(target=hang, daemon=True).start()
    time.sleep(0.1)
    engine.check()
    assert failed.wait(5)


def test_an_engine_that_crashes_ends_the_process(tmp_path: Path) -> None:
    (tmp_path / "crash").touch()
    code = (
        "from pathlib import Path; from PIL import Image; from tests.chaos.worker import FailingEngine; "
        f"FailingEngine(Path({str(tmp_path)!r}), 0, 1).complete([Image.new('RGB', (16, 16))])"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 139


def test_the_bucket_lists_and_gives_its_pictures() -> None:
    with serving_bucket() as bucket:
        bucket.pictures = {f"a/{number:03d}.png": Picture(number) for number in range(250)}
        first = get(f"{bucket.url}/{NAME}?list-type=2&prefix=a%2F")
        assert first.count(b"<Key>") == 200
        second = get(f"{bucket.url}/{NAME}?list-type=2&prefix=a%2F&continuation-token=a/199.png")
        assert second.count(b"<Key>") == 50
        assert b"<IsTruncated>false" in second
        assert get(f"{bucket.url}/{NAME}/a/007.png") == Picture(7).data


@pytest.mark.parametrize("how", ["500", "503", "403", "404", "changed"])
def test_the_bucket_answers_with_an_error_until_behave_is_called(how: str) -> None:
    with serving_bucket() as bucket:
        bucket.pictures["a.png"] = Picture(1)
        bucket.misbehave(how, 1)
        with pytest.raises(urllib.error.HTTPError) as caught:
            get(f"{bucket.url}/{NAME}/a.png")
        assert str(caught.value.code) == {"changed": "412"}.get(how, how)
        assert bucket.misbehaved == 1
        bucket.behave()
        assert get(f"{bucket.url}/{NAME}/a.png") == Picture(1).data


def test_each_misbehaviour_has_a_reason_code() -> None:
    assert MISBEHAVIOURS.keys() == REASONS.keys()


def test_a_share_of_0_never_misbehaves_and_a_share_of_1_always() -> None:
    bucket = Bucket("")
    bucket.misbehave("500", 0)
    assert bucket._misbehaviour() is None
    bucket.misbehave("500", 1)
    assert bucket._misbehaviour() == "500"


def test_pictures_are_distinct_and_have_their_verdicts() -> None:
    pictures = [Picture(number) for number in range(600)]
    assert len({picture.etag for picture in pictures}) == 600
    for picture in pictures[:4]:
        with Image.open(io.BytesIO(picture.data)) as image:
            assert (brightness(image) > 0.5) == (picture.verdict == "fake")


def test_a_clock_jumps(tmp_path: Path) -> None:
    try:
        Clock(tmp_path / "clock").check()
    except MissingError as error:
        pytest.skip(str(error))


def test_a_disk_is_full_until_it_is_freed(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        if disk.why_not:
            pytest.skip(disk.why_not)
        disk.fill()
        with pytest.raises(OSError, match="No space left"):
            (disk.folder / "file").write_bytes(bytes(5000))
        disk.free()
        (disk.folder / "file").write_bytes(bytes(5000))


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return bytes(answer.read())
