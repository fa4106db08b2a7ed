"""What the documents show is right: commands have these options, and files can be read."""

import json
import re
import shlex
import tomllib
from pathlib import Path
from uuid import uuid4

import pytest
import typer.exceptions

from producers.__main__ import app
from producers.dsa.templates import read_templates
from producers.export.labels import read_labels
from producers.nightly.schedule import load
from producers.web.settings import PREFIX, WebSettings
from tests.documents import DOCUMENTS, ROOT, command_lines, first, snippets
from worker.detector.description import AnswerForm
from worker.grants import TABLES
from worker.lab.annotation.costs import read_prices
from worker.lab.datasets.reading import read_dataset
from worker.lab.datasets.records import Record
from worker.messages import JudgeImages
from worker.settings import Settings

STANDS_FOR = {"SCAN": str(uuid4())}


@pytest.mark.parametrize("line", [line for line in command_lines() if line != "fakesweep --help"])
def test_commands_have_the_options_that_documents_show(line: str) -> None:
    _, *words = (STANDS_FOR.get(word, word) for word in shlex.split(line))
    if words[0].startswith("-"):  # an option of the command line itself
        assert words[0] in {option for param in app.params for option in param.opts}
        return
    context = app.make_context("fakesweep", words[:1], resilient_parsing=True)
    _, command, _ = app.resolve_command(context, words)
    assert command is not None
    if len(words) > 1 and words[-1] != "…":  # a command without arguments is only a name here
        command.make_context(words[0], words[1:], parent=context)


def test_a_wrong_option_is_found() -> None:
    context = app.make_context("fakesweep", ["scan"], resilient_parsing=True)
    _, command, _ = app.resolve_command(context, ["scan"])
    assert command is not None
    with pytest.raises(typer.exceptions.TyperException):
        command.make_context("scan", ["s3://b/", "--no-such-option"], parent=context)
    assert len(command_lines()) > 40


def test_the_message_of_the_document_is_valid() -> None:
    assert JudgeImages.parse(json.loads(first("message.md", "json"))).images[0].external_id == "post 7"


def test_the_files_for_nightly_prices_and_labels_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(first("nightly.md", "toml"))
    assert load(tmp_path / "x.toml")["photos"].policy.max_tokens == 128
    (tmp_path / "x.toml").write_text(first("annotation.md", "toml"))
    assert read_prices(tmp_path / "x.toml")["gpt-4o"].output == 10
    (labels,) = (one.text for one in snippets("") if one.text.startswith("uri,sha256"))
    (tmp_path / "labels.csv").write_text(labels)
    faults: list[object] = []
    assert len(list(read_labels(tmp_path / "labels.csv", AnswerForm(), faults.append))) == 2
    assert faults == []


def test_the_record_of_a_dataset_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(f"[{first('datasets.md', 'json')}]")
    (record,) = read_dataset(tmp_path / "x.json")
    assert isinstance(record, Record)


def test_toml_blocks_are_valid() -> None:
    for snippet in snippets("toml"):
        tomllib.loads(snippet.text)


def test_settings_that_documents_name_exist() -> None:
    fields = {f"FAKESWEEP_{name.upper()}" for name in Settings.model_fields}
    fields |= {f"{PREFIX}{name.upper()}" for name in WebSettings.model_fields}
    others = {"FAKESWEEP_API", "FAKESWEEP_TOKEN"}  # from docs/api_client.mjs
    others |= {"FAKESWEEP_IMAGES_IN_FLIGHT"}  # from the changelog, which says that it was removed
    for path in DOCUMENTS:
        named = set(re.findall(r"FAKESWEEP_[A-Z_]+[A-Z]", path.read_text(encoding="utf-8")))
        unknown = {name for name in named - fields - others if not name.startswith("FAKESWEEP_ANNOTATION_KEY")}
        assert not unknown, path


def test_the_settings_of_the_first_review_desk_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKESWEEP_WEB_SECRET", "x" * 48)  # which the unit gives
    for line in first("production.md", "ini").splitlines():
        monkeypatch.setenv(*line.split("=", 1))
    WebSettings.from_environment().check()


def test_the_readme_names_every_setting() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, field in Settings.model_fields.items():
        assert f"`{field.validation_alias or f'FAKESWEEP_{name.upper()}'}`" in readme, name


def test_the_targets_of_links_exist() -> None:
    for path in (*DOCUMENTS, *(ROOT / "docs" / "decisions").glob("*.md"), *(ROOT / "deploy").glob("*/README.md")):
        for link, heading in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)", path.read_text(encoding="utf-8")):
            target = path.parent / link if link else path
            assert "://" in link or target.exists(), f"{path.name}: {link}"
            if heading and "://" not in link:
                assert heading in headings(target.read_text(encoding="utf-8")), f"{path.name}: {link}#{heading}"


def headings(document: str) -> set[str]:
    """The names that links use for the headings of a document."""
    found = re.findall(r"^#+ (.*)$", document, re.MULTILINE)
    return {re.sub(r"[^\w\s-]", "", heading.lower()).strip().replace(" ", "-") for heading in found}


def test_all_settings_of_the_review_desk_are_documented() -> None:
    told = (ROOT / "docs" / "review-desk.md").read_text(encoding="utf-8")
    for name, field in WebSettings.model_fields.items():
        assert f"`{field.validation_alias or PREFIX + name.upper()}`" in told, name


def test_the_times_to_stop_are_longer_than_a_hung_engine_needs() -> None:
    written = "".join(path.read_text(encoding="utf-8") for path in (*DOCUMENTS, ROOT / "deploy/images/README.md"))
    said = re.findall(r"(?:--stop-timeout |stop --time |TimeoutStopSec=|terminationGracePeriodSeconds: )(\d+)", written)
    assert len(said) >= 4
    assert all(int(seconds) > Settings().engine_stall_s for seconds in said), said


def test_the_table_of_retention_names_every_table() -> None:
    table = (ROOT / "docs" / "retention.md").read_text("utf-8").partition("## What is kept")[2]
    assert set(TABLES) - set(re.findall(r"`([a-z_]+)`", table)) == set()


def test_the_statement_of_reasons_of_the_document_passes_the_rules(tmp_path: Path) -> None:
    (tmp_path / "statement.toml").write_text(first("dsa.md", "toml"))
    assert len(read_templates(tmp_path / "statement.toml").record("swapped_face")["territorial_scope"]) == 27
