"""How descriptions and models are found. A bad model is an error before an engine starts."""

import filecmp
import hashlib
import http.client
import os
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import huggingface_hub.constants
import pytest
from structlog.testing import capture_logs

from tests.conftest import DEMO_DETECTOR
from tests.processes import wait_for
from tests.unit.bad_models import BAD, WEIGHTS, broken, copied, edit, reweigh, shards, sparse
from worker.detector.description import DetectorDescription, vlm_only
from worker.detector.inspection import inspect
from worker.detector.loading import load_description
from worker.detector.memory import available_bytes
from worker.detector.s3_model import S3Model
from worker.detector.supply import supply
from worker.errors import ConfigurationError, StorageUnavailableError
from worker.settings import Settings

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def given(detector: object = DEMO_DETECTOR, **more: Any) -> Settings:
    return Settings(detector=str(detector), **({"engine": "transformers"} | more))


def supplied(settings: Settings) -> tuple[DetectorDescription, Path]:
    return supply(load_description(settings), settings)


def inspected(folder: Path, description: DetectorDescription, settings: Settings) -> None:
    inspect(folder, description, engine=settings.engine, gpu_memory_utilization=settings.gpu_memory_utilization)


def described(settings: Settings, **changes: Any) -> DetectorDescription:
    return load_description(settings).model_copy(update=changes)


@pytest.fixture(scope="module")
def demo_revision() -> str | None:
    return supplied(given())[0].revision


# Folders and files


@pytest.mark.parametrize("detector", [DEMO_DETECTOR, DEMO_DETECTOR / "detector.toml"])
@pytest.mark.parametrize("engine", ["transformers", "vllm"])
def test_a_folder_or_its_detector_toml(detector: Path, engine: str) -> None:
    description, folder = supplied(given(detector, engine=engine))
    assert (description.name, folder) == ("demo", DEMO_DETECTOR.resolve())
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", description.revision or "")


def test_a_shipped_name_is_a_pinned_hub_model() -> None:
    description = load_description(Settings(detector="fakevlm"))
    assert description.model == "lingcco/fakeVLM"
    assert re.fullmatch(r"[0-9a-f]{40}", description.revision or "")


def test_a_toml_may_name_a_folder_beside_it(tmp_path: Path, demo_revision: str) -> None:
    copied(tmp_path, "model")
    text = (DEMO_DETECTOR / "detector.toml").read_text()
    (tmp_path / "own.toml").write_text(text.replace('model = "."', 'model = "./model"'))
    description, folder = supplied(given(tmp_path / "own.toml"))
    assert (description.revision, folder) == (demo_revision, tmp_path / "model")


def test_the_revision_of_a_folder_depends_on_its_files(tmp_path: Path, demo_revision: str) -> None:
    folder = copied(tmp_path)
    text = (folder / "detector.toml").read_text(encoding="utf-8").partition("[checksums]")[0]
    (folder / "detector.toml").write_text(text, encoding="utf-8")
    assert supplied(given(folder))[0].revision == demo_revision
    edit("generation_config.json", lambda config: config.update(max_length=99))(folder)
    reconfigured = supplied(given(folder))[0].revision
    reweigh(lambda tensors: next(iter(tensors.values())).fill(0.5))(folder)
    assert len({demo_revision, reconfigured, supplied(given(folder))[0].revision}) == 3


def test_another_model_under_the_same_description(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    assert load_description(given(folder)).checksums
    description, found = supplied(given(folder, model=str(DEMO_DETECTOR)))
    assert (found, description.checksums) == (DEMO_DETECTOR.resolve(), {})
    assert load_description(Settings(model="some/other")).revision is None
    assert load_description(Settings(model="some/other", revision=COMMIT)).revision == COMMIT


@pytest.mark.parametrize("detector", ["/no/such/folder", "no/such/own.toml", "nobody", "a/b/c"])
def test_a_detector_that_cannot_be_found(detector: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^FAKESWEEP_DETECTOR: '{detector}' is neither one of .*fakevlm"):
        load_description(given(detector))


# Checksums


def test_a_wrong_checksum_is_an_error_with_the_files_name(demo_revision: str) -> None:
    settings = given()
    right = {name: hashlib.sha256((DEMO_DETECTOR / name).read_bytes()).hexdigest() for name in (WEIGHTS, "README.md")}
    assert supply(described(settings, checksums=right), settings)[0].revision == demo_revision
    with pytest.raises(ConfigurationError, match=r"^FAKESWEEP_MODEL: .*README\.md has the SHA-256 .*; fetch"):
        supply(described(settings, checksums=right | {"README.md": "0" * 64}), settings)
    with pytest.raises(ConfigurationError, match=r"^FAKESWEEP_MODEL: .*absent\.json cannot be read"):
        supply(described(settings, checksums={"absent.json": "0" * 64}), settings)


@pytest.mark.timeout(60)
def test_memory_is_checked_before_checksums(tmp_path: Path) -> None:
    settings = given(broken("too large", tmp_path))
    with pytest.raises(ConfigurationError, match="needs at least"):
        supply(described(settings, checksums={WEIGHTS: "0" * 64}), settings)


# The hub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes a cache of the hub client with the demo detector as org/demo.

    As always there, its files are links out of the folder.
    """
    repository = tmp_path / "hub" / "models--org--demo"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    for path in DEMO_DETECTOR.iterdir():
        (snapshot / path.name).symlink_to(path)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return snapshot


@pytest.mark.parametrize("revision", [None, "main", COMMIT])
def test_a_detector_from_the_hub(hub: Path, revision: str | None) -> None:
    with capture_logs() as logs:
        description, folder = supplied(given("org/demo", revision=revision))
    assert (description.name, description.model, description.revision) == ("demo", "org/demo", COMMIT)
    assert folder == hub
    unpinned = [(line["model"], line["commit"]) for line in logs if line["event"] == "detector_unpinned"]
    assert unpinned == ([] if revision == COMMIT else [("org/demo", COMMIT)])


@pytest.mark.parametrize("revision", ["main", COMMIT])
def test_a_model_from_the_hub(hub: Path, revision: str) -> None:
    with capture_logs() as logs:
        description, folder = supplied(given(model="org/demo", revision=revision))
    assert (description.revision, folder) == (COMMIT, hub)
    assert [line["event"] for line in logs] == ([] if revision == COMMIT else ["detector_unpinned"])


def test_a_folder_of_a_hub_repository(hub: Path) -> None:
    (hub / "inner").mkdir()
    for path in DEMO_DETECTOR.iterdir():
        (hub / path.name).rename(hub / "inner" / path.name)
    text = (DEMO_DETECTOR / "detector.toml").read_text().replace('model = "."', 'model = "./inner"')
    (hub / "detector.toml").write_text(text)
    description, folder = supplied(given("org/demo"))
    assert (description.model, description.revision, folder) == ("org/demo/inner", COMMIT, hub / "inner")


def test_a_model_that_cannot_be_downloaded_from_the_hub(hub: Path) -> None:
    for settings, name in (
        (given("nobody/nothing"), "FAKESWEEP_DETECTOR: nobody/nothing"),
        (given(model="nobody/nothing"), "FAKESWEEP_MODEL: nobody/nothing"),
        (given(model="org/demo", revision="0" * 40), "FAKESWEEP_MODEL: org/demo"),
    ):
        with pytest.raises(ConfigurationError) as caught:
            supplied(settings)
        assert str(caught.value).startswith(name)
        assert str(caught.value).endswith("download it first and give its folder")
        assert "\n" not in str(caught.value)


# S3


def put(bucket: str, prefix: str = "", *, names: tuple[str, ...] = ()) -> None:
    client = boto3.client("s3")
    for path in DEMO_DETECTOR.iterdir():
        if not names or path.name in names:
            client.put_object(Bucket=bucket, Key=prefix + path.name, Body=path.read_bytes())


@pytest.mark.parametrize(("prefix", "uri"), [("m/1/", "/m/1"), ("m/1/", "/m/1/"), ("", ""), ("", "/")])
def test_a_detector_from_s3(bucket: str, prefix: str, uri: str, tmp_path: Path, demo_revision: str) -> None:
    put(bucket, prefix)
    # objects in deeper folders belong to another model
    boto3.client("s3").put_object(Bucket=bucket, Key=f"{prefix}z/generation_config.json", Body=b"{}")
    settings = given(f"s3://{bucket}{uri}", model_cache=tmp_path)
    description, folder = supplied(settings)
    assert (description.name, description.revision) == ("demo", demo_revision)
    assert description.model == f"s3://{bucket}{uri}".rstrip("/")
    assert folder.parent == tmp_path
    assert not {"README.md", "detector.toml"} & {path.name for path in folder.iterdir()}
    (folder / "kept").touch()
    assert supplied(settings)[1] == folder
    assert (folder / "kept").exists()


def test_a_changed_object_makes_another_folder(bucket: str, tmp_path: Path) -> None:
    put(bucket, "m/")
    settings = given(model=f"s3://{bucket}/m", model_cache=tmp_path)
    first = supplied(settings)
    boto3.client("s3").put_object(Bucket=bucket, Key="m/generation_config.json", Body=b"{}")
    second = supplied(settings)
    assert first[1] != second[1]
    assert first[0].revision != second[0].revision


def test_a_description_in_s3_with_its_model_beside_it(bucket: str, tmp_path: Path) -> None:
    put(bucket, "d/model/")
    text = (DEMO_DETECTOR / "detector.toml").read_text().replace('model = "."', 'model = "./model"')
    boto3.client("s3").put_object(Bucket=bucket, Key="d/detector.toml", Body=text.encode())
    description, folder = supplied(given(f"s3://{bucket}/d", model_cache=tmp_path))
    assert description.model == f"s3://{bucket}/d/model"
    assert (folder / WEIGHTS).is_file()


def test_errors_of_s3_name_the_setting(bucket: str, tmp_path: Path) -> None:
    absent = f"s3://{bucket}-absent"
    (tmp_path / "taken").touch()
    put(bucket, "m/", names=("config.json",))
    for settings, said in (
        (given(f"{absent}/m"), rf"^FAKESWEEP_DETECTOR: {absent}/m/detector.toml: S3 answered NoSuchBucket; check"),
        (given(f"s3://{bucket}/m"), r"^FAKESWEEP_DETECTOR: .*/m/detector.toml: S3 answered NoSuchKey; check"),
        (given(model=f"{absent}/m", model_cache=tmp_path), rf"^FAKESWEEP_MODEL: {absent}/m: S3 answered NoSuchBucket"),
        (
            given(model=f"s3://{bucket}/x", model_cache=tmp_path),
            r"^FAKESWEEP_MODEL: there is no model under .*/x; give",
        ),
        (given(model=f"s3://{bucket}/m", model_cache=tmp_path), r"^FAKESWEEP_MODEL: .* holds no weights"),
        (
            given(model=f"s3://{bucket}/m", model_cache=tmp_path / "taken"),
            "^FAKESWEEP_MODEL_CACHE: .*; give a writable",
        ),
    ):
        with pytest.raises(ConfigurationError, match=said):
            supplied(settings)


def test_s3_that_cannot_be_reached_is_a_transient_error(s3_environment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    with pytest.raises(StorageUnavailableError, match=r"^FAKESWEEP_DETECTOR: s3://b/m/detector.toml: EndpointConn"):
        load_description(given("s3://b/m"))


def test_an_endpoint_that_is_no_url_is_an_error(s3_environment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "nonsense")
    with pytest.raises(ConfigurationError, match=r"^FAKESWEEP_DETECTOR: s3://b/m/.*Invalid endpoint: nonsense; set"):
        load_description(given("s3://b/m"))


class Proxy(ThreadingHTTPServer):
    """A proxy in front of the tests' S3 server.

    It counts the downloads of each file, and can stop in the middle of one.
    """

    daemon_threads = True

    def __init__(self, url: str) -> None:
        super().__init__(("127.0.0.1", 0), _Forward)
        self.target = str(urlsplit(url).netloc)
        self.fetched: Counter[str] = Counter()
        self.stalling = False
        self.stalled, self.go_on = threading.Event(), threading.Event()


class _Forward(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def do_GET(self) -> None:
        name = urlsplit(self.path).path.rpartition("/")[2]
        connection = http.client.HTTPConnection(self.server.target, timeout=30)
        connection.request(self.command, self.path, headers=dict(self.headers))
        answer = connection.getresponse()
        body = answer.read()
        self.send_response(answer.status)
        for key, value in answer.getheaders():
            if key.lower() not in {"transfer-encoding", "content-length", "connection", "date", "server"}:
                self.send_header(key, value)
        self.send_header("Content-Length", answer.getheader("Content-Length") or str(len(body)))
        self.end_headers()
        self.server.fetched[f"{self.command} {name}"] += 1
        with suppress(OSError):
            self._send(body, stall=self.server.stalling and self.command == "GET" and name == WEIGHTS)

    do_HEAD = do_GET  # noqa: N815 - http.server's name

    def _send(self, body: bytes, *, stall: bool) -> None:
        self.wfile.write(body[: len(body) // 2])
        if stall:
            self.wfile.flush()
            self.server.stalled.set()
            self.server.go_on.wait(60)
        self.wfile.write(body[len(body) // 2 :])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def proxy(bucket: str, s3_environment: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    put(bucket, "m/")
    with Proxy(s3_environment) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{server.server_port}")
        yield server
        server.go_on.set()
        server.shutdown()
        thread.join()


def test_a_killed_download_leaves_nothing_that_is_used(bucket: str, proxy: Proxy, tmp_path: Path) -> None:
    proxy.stalling = True
    code = (
        "import sys; from pathlib import Path; from worker.detector.s3_model import S3Model;"
        "S3Model(sys.argv[1], setting='x', timeout_s=20).download(Path(sys.argv[2]))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, f"s3://{bucket}/m", str(tmp_path)], env=dict(os.environ))
    assert proxy.stalled.wait(60)
    process.kill()
    process.wait()
    assert {path.suffix for path in tmp_path.iterdir()} == {".lock", ".partial"}
    proxy.stalling = False
    proxy.go_on.set()
    _, folder = supplied(given(model=f"s3://{bucket}/m", model_cache=tmp_path))
    assert filecmp.cmp(folder / WEIGHTS, DEMO_DETECTOR / WEIGHTS, shallow=False)
    assert not list(tmp_path.glob("*.partial"))


def test_two_downloads_at_the_same_time_fetch_each_file_once(bucket: str, proxy: Proxy, tmp_path: Path) -> None:
    proxy.stalling = True
    with ThreadPoolExecutor(2) as pool:
        both = [
            pool.submit(S3Model(f"s3://{bucket}/m", setting="x", timeout_s=20).download, tmp_path) for _ in range(2)
        ]
        assert proxy.stalled.wait(60)
        wait_for(lambda: proxy.fetched["GET m"] + proxy.fetched[f"GET {bucket}"] >= 2, 60)  # both have listed
        proxy.go_on.set()
        assert len({running.result() for running in both}) == 1
    assert proxy.fetched[f"GET {WEIGHTS}"] == 1


def test_a_model_that_changes_during_the_download_is_not_kept(
    bucket: str, s3_url: str, proxy: Proxy, tmp_path: Path
) -> None:
    proxy.stalling = True
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(S3Model(f"s3://{bucket}/m", setting="FAKESWEEP_MODEL", timeout_s=20).download, tmp_path)
        assert proxy.stalled.wait(60)
        boto3.client("s3", endpoint_url=s3_url).put_object(Bucket=bucket, Key="m/config.json", Body=b"{}")
        proxy.go_on.set()
        with pytest.raises(StorageUnavailableError, match="changed while it was downloaded"):
            running.result()
    assert not [path for path in tmp_path.iterdir() if path.is_dir() and path.suffix != ".partial"]


# Inspection


@pytest.mark.parametrize("way", BAD)
def test_a_bad_folder_is_an_error_in_one_line(way: str, tmp_path: Path) -> None:
    bad, folder = BAD[way], broken(way, tmp_path)
    settings = given(engine=bad.engine)
    with pytest.raises(ConfigurationError) as caught:
        inspected(folder, load_description(settings), settings)
    assert re.fullmatch(rf"FAKESWEEP_MODEL: [^;]*{bad.cause}.*; [^;]*{bad.remedy}.*", str(caught.value)), caught.value
    assert "\n" not in str(caught.value)


def test_complete_shards_are_accepted(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    shards(folder, 0, 1)
    inspected(folder, load_description(given()), given())


@pytest.mark.parametrize(
    ("changes", "slope", "said"),
    [
        ({}, 0.5, []),
        ({"model": "other/model"}, 1.0, ["calibration_dropped"]),
        ({"prompt": "other"}, 1.0, ["calibration_dropped"]),
        ({"dtype": "bfloat16"}, 0.5, ["calibration_of_another_precision"]),
    ],
)
def test_a_calibration_is_dropped_for_another_detector(
    changes: dict[str, Any], slope: float, said: list[str], tmp_path: Path
) -> None:
    text = (DEMO_DETECTOR / "detector.toml").read_text() + "\n[calibration]\nslope = 0.5\n"
    (tmp_path / "x.toml").write_text(text.replace("[prompts]", "[prompts]\nother = '<image>?'"))
    with capture_logs() as logs:
        description = load_description(Settings(detector=str(tmp_path / "x.toml"), **changes))
    assert description.calibration.slope == slope
    assert [line["event"] for line in logs] == said


@pytest.mark.parametrize(
    ("fitted_under", "preprocessing", "slope"),
    [
        (None, "", 0.5),
        (None, "decode = 'full'\nedge = 112", 0.5),  # from before this field existed, or written by hand
        (None, "decode = 'reduced'", 1.0),
        ("clip-pillow-1@336", "", 0.5),
        ("clip-pillow-1@336", "decode = 'reduced'", 1.0),
        ("clip-pillow-1@336", "edge = 112", 1.0),
        ("clip-pillow-reduced-1@336", "decode = 'reduced'", 0.5),
        ("clip-pillow-reduced-1@336", "", 1.0),
    ],
)
def test_a_calibration_is_dropped_for_other_preprocessing(
    fitted_under: str | None, preprocessing: str, slope: float, tmp_path: Path
) -> None:
    own = f"\npreprocessing = '{fitted_under}'" if fitted_under else ""
    text = f"[preprocessing]\n{preprocessing}\n[calibration]\nslope = 0.5{own}\n"
    (tmp_path / "x.toml").write_text((DEMO_DETECTOR / "detector.toml").read_text() + text)
    with capture_logs() as logs:
        description = load_description(Settings(detector=str(tmp_path / "x.toml")))
    assert description.calibration.slope == slope
    assert [line["event"] for line in logs] == (["calibration_dropped"] if slope == 1.0 else [])
    assert all("fakesweep calibrate" in line["reason"] for line in logs)


def test_a_placeholder_of_several_tokens(tmp_path: Path) -> None:
    settings = given()
    with pytest.raises(ConfigurationError, match=r"'<img>' is not the model's image token.*; set image_placeholder"):
        inspected(DEMO_DETECTOR, described(settings, image_placeholder="<img>"), settings)


def test_unused_weights_are_logged(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    edit("config.json", lambda config: config["text_config"].update(num_hidden_layers=3))(folder)
    with capture_logs() as logs:
        inspected(folder, load_description(given()), given())
    assert [(line["event"], line["count"]) for line in logs] == [("weights_unused", 9)]


def test_weights_of_eight_bits_need_a_quarter_of_float32(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    sparse(folder, available_bytes("transformers", 0.9)[0] // 2)
    with pytest.raises(ConfigurationError, match=r"needs at least .*FAKESWEEP_QUANTIZATION=fp8_per_tensor"):
        inspected(folder, load_description(given()), given())
    settings = given(quantization="fp8_per_tensor")
    with pytest.raises(ConfigurationError, match="do not fit its config"):
        inspected(folder, load_description(settings), settings)


def test_the_cache_of_an_answer_is_counted_and_fp8_takes_a_quarter() -> None:
    settings = given()
    limits = vlm_only(load_description(settings), "a test").engine.model_copy(update={"max_model_len": 10**10})
    for kind, said in (("auto", "40960.0 GB for one answer"), ("fp8", "10240.0 GB for one answer")):
        changed = limits.model_copy(update={"kv_cache_dtype": kind})
        with pytest.raises(ConfigurationError, match=said):
            inspected(DEMO_DETECTOR, described(settings, engine=changed), settings)
