"""The checks that need no service. No check can stop the others."""

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from producers.checking import database, gpu, machine, model, web
from producers.checking.rows import ALL, Check, Process, Row, State, Subject, ok, wrong
from producers.checking.running import CHECKS, run_checks
from tests.checking import check, check_all, subject_of
from tests.classifiers import detector_toml
from tests.conftest import DEMO_DETECTOR
from worker.errors import ConfigurationError
from worker.grants import Role

OK, WARNING, WRONG, SKIPPED = State.OK, State.WARNING, State.WRONG, State.SKIPPED
SECRET = "s" * 48


def test_checks_have_different_names_and_come_after_what_they_need() -> None:
    names = [one.name for one in CHECKS]
    assert len(set(names)) == len(names)
    for place, one in enumerate(CHECKS):
        assert one.after is None or one.after in names[:place]
        assert one.needed_by <= ALL
        assert one.remedy


def test_a_failure_stops_no_other_check() -> None:
    def raises(_: Subject) -> Iterator[Row]:
        yield ok("the first part", "part")
        raise RuntimeError("postgresql://me:hunter2@host\nis away")

    def hangs(_: Subject) -> Iterator[Row]:
        yield ok("before")
        time.sleep(60)

    checks = [
        Check("first", raises, "mend it", after=None),
        Check("second", lambda _: [ok("never")], "-", after="first"),
        Check("third", lambda _: [ok("never")], "-", after="second"),
        Check("fourth", hangs, "wait", after=None),
        Check("other", lambda _: [ok("never")], "-", after=None, needed_by=frozenset({Process.WEB})),
        Check("last", lambda _: [ok("fine")], "-", after=None),
    ]
    rows = list(run_checks(subject_of(Process.WORKER), checks, limit_s=0.2))
    assert [(row.name, row.state) for row in rows] == [
        ("first part", OK), ("first", WRONG), ("second", SKIPPED), ("third", SKIPPED),
        ("fourth", OK), ("fourth", WRONG), ("last", OK),
    ]  # fmt: skip
    assert rows[1].found == "RuntimeError: postgresql://[scrubbed]host is away"
    assert rows[1].remedy == "mend it"
    assert rows[5].found == "no answer within 0 s"


def test_wrong_settings_are_one_row_and_the_machine_is_still_checked() -> None:
    subject = subject_of(Process.WORKER, given=ConfigurationError("FAKESWEEP_THREADS is not a number"))
    rows = {row.name: row for row in run_checks(subject)}
    assert (rows["settings"].state, rows["settings"].found) == (WRONG, "FAKESWEEP_THREADS is not a number")
    assert {row.state for name, row in rows.items() if name.startswith(("database", "broker", "detector"))} == {SKIPPED}
    assert rows["temporary files"].state in {OK, WARNING}


def test_settings_say_which_secrets_come_from_files(tmp_path: Path) -> None:
    assert check("settings", subject_of()).found == "all can be read"
    found = check("settings", subject_of(environment={"BROKER_URL_FILE": "x"}, secrets_dir=tmp_path)).found
    assert found == f"all can be read; secrets come from the files of BROKER_URL, the folder {tmp_path}"


def test_a_variable_that_is_no_setting_is_named() -> None:
    assert check("variables", subject_of(environment={"FAKESWEEP_MAX_BYTES": "1"})).state is OK
    row = check("variables", subject_of(environment={"FAKESWEEP_MAX_BYTE": "1"}))
    assert (row.state, "did you mean FAKESWEEP_MAX_BYTES?" in row.found) == (State.WARNING, True)


@pytest.mark.parametrize(
    ("dsn", "state"),
    [("", SKIPPED), ("https://key@sentry.example.org/7", OK), ("sentry.example.org", WRONG)],
)
def test_sentry(dsn: str, state: State) -> None:
    assert check("sentry", subject_of(sentry_dsn=dsn)).state is state


def test_folders(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert check("allowed folder", subject_of()).state is SKIPPED
    rows = check_all("allowed folder", subject_of(allowed_folders=(str(tmp_path), str(tmp_path / "file"))))
    assert [(row.name, row.state) for row in rows] == [
        (f"allowed folder {tmp_path}", OK),
        (f"allowed folder {tmp_path}/file", WRONG),
    ]


def test_the_nightly_file(tmp_path: Path) -> None:
    path = tmp_path / "nightly.toml"
    path.write_text('[photos]\ncrontab = "0 2 * * *"\nsource = "s3://photos/"\n')
    assert check("nightly file", subject_of(nightly=path)).found == f"{path}: photos; times in UTC"
    path.write_text('[photos]\ncrontab = "0 2 * *"\nsource = "s3://photos/"\n')
    assert check("nightly file", subject_of(nightly=path)).state is WRONG
    assert check("nightly file", subject_of()).state is WRONG


def test_shared_memory(tmp_path: Path) -> None:
    assert machine.shared_memory(tmp_path, least=1).state is OK
    row = machine.shared_memory(tmp_path, least=2**60)
    assert (row.state, "--shm-size" in str(row.remedy)) == (WRONG, True)
    assert machine.shared_memory(tmp_path / "none").state is SKIPPED
    assert check("shared memory", subject_of(Process.WORKER, engine="transformers")).state is SKIPPED
    assert check("shared memory", subject_of(Process.WORKER)).state in {OK, WRONG}


@pytest.mark.parametrize(("version", "state"), [(140022, WRONG), (150000, OK), (180001, OK)])
def test_versions_of_postgres(version: int, state: State) -> None:
    assert database.supported(version).state is state


@pytest.mark.parametrize(
    ("mode", "host", "state"),
    [
        ("verify-full", "db.example.org", OK),
        ("require", "db.example.org", WARNING),
        ("", "db.example.org", WARNING),
        ("", "127.0.0.1", OK),
        ("", "/var/run/postgresql", OK),
    ],
)
def test_the_encryption_of_the_database(mode: str, host: str, state: State) -> None:
    assert database.encrypted_as(mode, host).state is state


def test_clocks() -> None:
    assert database.clock(-2.0).state is OK
    late = database.clock(-61.0)
    assert (late.state, late.found) == (WARNING, "the database's clock is 61 s behind this machine's")


def test_the_privileges_that_a_role_needs() -> None:
    needed = database.needed(Role.WORKER)
    assert ("verdicts", "INSERT", "") in needed
    assert ("detectors", "UPDATE", "started_at") in needed
    assert ("verdicts", "UPDATE", "") not in needed
    assert set(database.needed(Role.PRODUCER)) < set(database.needed(Role.WEB))


@pytest.mark.parametrize(
    ("url", "state"),
    [
        ("amqp://me@127.0.0.1//", OK),
        ("amqp://me@broker.example.org//", WARNING),
        ("redis://broker.example.org", WARNING),
        ("amqps://me@broker.example.org//", OK),
        ("sqs://", SKIPPED),
    ],
)
def test_encryption_of_the_broker(url: str, state: State) -> None:
    row = check("broker encryption", subject_of(broker_url=url.replace("sqs://", "sqs://sqs.example.org")))
    assert row.state is state


def test_the_detector_and_its_files(tmp_path: Path) -> None:
    good = subject_of(detector=str(DEMO_DETECTOR))
    assert check("detector", good).found.startswith("demo")
    files = check("model files", good)
    assert (files.state, files.found.partition(",")[0]) == (OK, "1 files of weights")
    assert check("model revision", good).state is OK
    assert check("model cache", good).state is SKIPPED
    assert check("detector", subject_of(detector="nobody")).state is WRONG
    assert check("model files", subject_of(detector=str(DEMO_DETECTOR), model=str(tmp_path))).state is WRONG
    (tmp_path / "config.json").write_text("{}")
    row = check("model files", subject_of(detector=str(DEMO_DETECTOR), model=str(tmp_path)))
    assert (row.state, "holds no weights" in row.found) == (WRONG, True)


def test_models_of_the_hub() -> None:
    pinned, moving = (subject_of(revision=revision, model="nobody/nothing") for revision in ("a" * 40, None))
    assert check("model revision", pinned).found == f"the commit {'a' * 40}"
    assert check("model revision", moving).state is WARNING
    assert check("model files", moving).state is WARNING
    offline = subject_of(model="nobody/nothing", environment={"HF_HUB_OFFLINE": "1"})
    assert check("model files", offline).state is WRONG


def classifier(folder: Path, **changes: str) -> Path:
    """Writes a classifier's description beside files that look like a model. Returns the description's folder."""
    shutil.copytree(DEMO_DETECTOR, folder)
    return detector_toml(folder, **changes)


def test_a_classifier_runs_on_transformers_whatever_the_engine_is(tmp_path: Path) -> None:
    subject = subject_of(Process.WORKER, detector=str(classifier(tmp_path / "own")), engine="vllm")
    assert check("engine", subject).found.startswith("transformers ")
    assert check("detector", subject).found.startswith("tiny: ")
    assert check("model files", subject).state is OK
    assert check("gpu", subject).found == "the detector's description says that it runs on the CPU"


def test_a_cascade_has_a_row_for_each_stage(tmp_path: Path) -> None:
    classifier(tmp_path / "first", preprocessing='{ edge = 336, fit = "crop" }')
    (tmp_path / "detector.toml").write_text(
        f'kind = "cascade"\nname = "both"\nfirst = "./first"\njudge = "{DEMO_DETECTOR}"\n[clear]\nup_to = 0.1\n'
    )
    subject = subject_of(Process.WORKER, detector=str(tmp_path))
    assert check("detector", subject).found.startswith("both: tiny + demo")
    for name in ("model files", "model revision"):
        assert [(row.name, row.state) for row in check_all(name, subject)] == [
            (f"{name} first", OK), (f"{name} judge", OK)
        ]  # fmt: skip
    assert [row.found.split()[0] for row in check_all("engine", subject)][-1].startswith("vllm")
    assert len(check_all("engine", subject)) == 2
    assert check("model cache", subject).state is SKIPPED
    (tmp_path / "first" / "config.json").unlink()
    assert [row.state for row in check_all("model files", subject)] == [WRONG, OK]
    shutil.rmtree(tmp_path / "first")
    classifier(tmp_path / "first", preprocessing='{ edge = 336, fit = "crop" }', model='"nobody/nothing"')
    assert check_all("model revision", subject)[0].remedy == "set revision to a commit in its own detector.toml"
    classifier(tmp_path / "none", preprocessing='{ edge = 336, fit = "crop" }', model='"./no-such-folder"')
    shutil.move(tmp_path / "none" / "detector.toml", tmp_path / "first" / "detector.toml")
    remedy = "correct model in its detector.toml, or fetch the model into it"
    assert check_all("model files", subject)[0].remedy == remedy, "FAKESWEEP_MODEL is refused for a cascade"


def test_a_file_without_weights_is_told_for_its_stage_and_the_judge_is_still_checked(tmp_path: Path) -> None:
    classifier(tmp_path / "first", preprocessing='{ edge = 336, fit = "crop" }')
    (tmp_path / "detector.toml").write_text(
        f'kind = "cascade"\nname = "both"\nfirst = "./first"\njudge = "{DEMO_DETECTOR}"\n[clear]\nup_to = 0.1\n'
    )
    for path in (tmp_path / "first").glob("*.safetensors"):
        path.unlink()
    first, judge = check_all("model files", subject_of(Process.WORKER, detector=str(tmp_path)))
    assert (first.state, judge.state) == (WRONG, OK)
    assert "FAKESWEEP_" not in first.found + first.remedy


@pytest.mark.parametrize("device", ["auto", None])
def test_a_classifier_that_finds_no_gpu_runs_on_the_cpu(tmp_path: Path, device: str | None) -> None:
    if Path("/dev/nvidiactl").exists():
        pytest.skip("there is a GPU here")
    changes = {"device": f'"{device}"' if device else ""}
    subject = subject_of(Process.WORKER, detector=str(classifier(tmp_path / "own", **changes)))
    row = check("gpu", subject)
    assert (row.state, row.found.partition(" (")[0]) == (WARNING, "no GPU is found: the classifier runs on the CPU")


def test_a_classifier_that_needs_a_gpu_is_wrong_without_one(tmp_path: Path) -> None:
    if Path("/dev/nvidiactl").exists():
        pytest.skip("there is a GPU here")
    further = classifier(tmp_path / "further", device='"cuda"', name='"other"')
    subject = subject_of(Process.WORKER, detector=str(classifier(tmp_path / "own")), also=(str(further),))
    assert check("gpu", subject).state is WRONG


def test_further_detectors_have_the_same_rows(tmp_path: Path) -> None:
    main = classifier(tmp_path / "own")
    further = classifier(tmp_path / "further", name='"other"', model='"nobody/nothing"')
    offline = {"HF_HUB_OFFLINE": "1"}
    subject = subject_of(Process.WORKER, detector=str(main), also=(str(further),), environment=offline)
    rows = check_all("further detectors", subject)
    assert [(row.name, row.state) for row in rows] == [
        ("further detectors other", OK),
        ("further detectors other files", WRONG),
        ("further detectors other revision", WARNING),
    ]
    assert not any("FAKESWEEP_" in row.remedy for row in rows), "these variables are for the main detector"
    with_demo = subject_of(Process.WORKER, detector=str(main), also=(str(DEMO_DETECTOR),), engine="vllm")
    assert len(check_all("engine", with_demo)) == 2, "the further detector needs another engine"


def test_the_engine() -> None:
    assert model.engine_found("vllm", "vllm 0.32.0", "2.13.0") == ok("vllm 0.32.0, torch 2.13.0")
    assert model.engine_found("vllm", None, None).found == "not installed: torch and vllm"
    assert "fakesweep[gpu]" in model.engine_found("vllm", None, None).remedy
    assert model.engine_found("transformers", None, None).remedy == "pip install 'fakesweep[transformers]'"
    assert check("engine", subject_of(engine="transformers")).found.startswith("transformers ")


def test_the_detector_is_not_blamed_when_the_engine_is_not_installed() -> None:
    engine, *others = model.CHECKS
    missing = replace(engine, run=lambda _: [wrong("not installed: torch and vllm", "install it")])
    rows = list(run_checks(subject_of(detector="nobody"), [missing, *others]))
    assert [row.name for row in rows if row.state is WRONG] == ["engine"]
    assert {row.state for row in rows[1:]} == {SKIPPED}


def cards(free: float, count: int = 1) -> list[gpu.Card]:
    return [gpu.Card("NVIDIA L4", 24 * 2**30, int(free * 2**30))] * count


def test_gpus() -> None:
    (row,) = gpu.judged(cards(22), "570.1", {}, 0.9)
    assert row == ok("NVIDIA L4, 22.0 of 24.0 GiB free, driver 570.1", "0")
    (row,) = gpu.judged(cards(21), "570.1", {}, 0.9)
    assert row.state is WRONG
    assert row.found.endswith("vLLM wants 21.6 GiB (0.9)")
    assert [row.name for row in gpu.judged(cards(24, 4), "570.1", {"CUDA_VISIBLE_DEVICES": "3, 1"}, 0.9)] == ["3", "1"]
    for hidden in ("", "7"):
        (row,) = gpu.judged(cards(24), "570.1", {"CUDA_VISIBLE_DEVICES": hidden}, 0.9)
        assert row.state is WRONG
    (row,) = gpu.judged([], "570.1", {}, 0.9)
    assert row.found == "no GPU: the driver finds none"
    # Only CUDA knows names of cards and of their slices, so all cards are shown.
    assert len(list(gpu.judged(cards(24, 2), "570.1", {"CUDA_VISIBLE_DEVICES": "GPU-9d1e"}, 0.9))) == 2


def test_vllm_for_cpus_needs_no_gpu() -> None:
    if not model.has_vllm_for_cpus():
        pytest.skip("vLLM for GPUs is installed here")
    assert check("gpu", subject_of()).state is SKIPPED


def test_web_settings(tmp_path: Path) -> None:
    good = {"secret": SECRET, "login": "proxy", "url": "https://review.example.org", "proxy_secret": SECRET}
    assert check("web settings", subject_of(web=good)).found == "a secret of 48 characters; it listens on port 8400"
    short = check("web settings", subject_of(web=good | {"secret": "hunter2"}))
    assert short.state is WRONG
    assert "hunter2" not in short.found
    assert check("web login", subject_of(web=good)).found.startswith("proxy: ")
    assert check("web login", subject_of(web={"login": "demo"})).state is WARNING
    oidc = {"oidc_issuer": "https://accounts.example.org", "oidc_client_id": "desk", "oidc_client_secret": "hunter2"}
    assert check("web login", subject_of(web=oidc)).found == (
        "oidc: https://accounts.example.org, client desk, a client secret"
    )
    assert check("web reasons", subject_of(web={})).state is OK
    (tmp_path / "reasons.toml").write_text("nothing = true")
    assert check("web reasons", subject_of(web={"reasons": tmp_path / "reasons.toml"})).state is WRONG
    assert check("web packages", subject_of()).state is OK
    assert web.installed("web", "fastapi", "no_such_package").found == "not installed: no_such_package"


def test_where_there_is_no_driver_no_gpu_is_found() -> None:
    if Path("/dev/nvidiactl").exists():
        pytest.skip("there is a GPU here")
    row = check("gpu", subject_of(engine="transformers"))
    assert row.state is WRONG
    assert "there is no NVIDIA driver" in row.found or "nvidia-ml-py" in row.found


@pytest.fixture
def closed() -> Iterator[Path]:
    """A folder that this process may neither read nor write. Root may do everything, so that it is somebody else."""
    with TemporaryDirectory(dir="/tmp") as made:
        folder = Path(made)
        (folder / "inside").mkdir()
        (folder / "inside").chmod(0)
        folder.chmod(0o755)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            yield folder / "inside"
        finally:
            os.seteuid(user)
            (folder / "inside").chmod(0o700)


def test_folders_that_this_user_may_not_use(closed: Path) -> None:
    row = machine.room(closed, least=1, setting="TMPDIR")
    assert (row.state, row.found) == (WRONG, f"{closed} is not writable")
    row = check("allowed folder", subject_of(allowed_folders=(str(closed),)))
    assert (row.state, row.found) == (WRONG, "cannot be read by this user")


def test_room_on_a_disk(tmp_path: Path) -> None:
    assert machine.room(tmp_path / "not" / "made", least=1, setting="TMPDIR").state is OK
    row = machine.room(tmp_path, least=2**60, setting="FAKESWEEP_MODEL_CACHE")
    assert (row.state, "FAKESWEEP_MODEL_CACHE" in row.remedy) == (WARNING, True)


def test_the_memory_limit_of_a_container(tmp_path: Path) -> None:
    assert machine.memory_limit(tmp_path) is None
    (tmp_path / "proc/self").mkdir(parents=True)
    own = tmp_path / "sys/fs/cgroup/pods/one"
    own.mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/pods/one\n")
    (own / "memory.max").write_text("max\n")
    assert machine.memory_limit(tmp_path) is None
    (own.parent / "memory.max").write_text("8589934592\n")
    assert machine.memory_limit(tmp_path) == 8 * 2**30, "a parent group is a limit, too"
    (tmp_path / "proc/self/cgroup").write_text("5:cpu:/x\n4:memory:/docker/one\n")
    old = tmp_path / "sys/fs/cgroup/memory/docker/one"
    old.mkdir(parents=True)
    (old / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert machine.memory_limit(tmp_path) is None
    (old / "memory.limit_in_bytes").write_text("4294967296\n")
    assert machine.memory_limit(tmp_path) == 4 * 2**30
    assert machine.enough(4 * 2**30, 8 * 2**30, Process.WORKER).state is WARNING
    assert machine.enough(9 * 2**30, 8 * 2**30, Process.WEB).state is OK


def test_the_trust_list_is_read(tmp_path: Path) -> None:
    assert "30 of c2pa 2026-08-05" in check("provenance", subject_of()).found
    assert "no trust list" in check("provenance", subject_of(trust_list=Path("none"))).found
    own = tmp_path / "own.pem"
    own.write_text("no certificate")
    row = check("provenance", subject_of(trust_list=own))
    assert (row.state, row.remedy) == (WRONG, "correct FAKESWEEP_TRUST_LIST")
