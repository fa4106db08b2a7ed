"""What pages and reports say in words about the origin of a content."""

import pytest

from producers.reporting.csv_findings import csv_pieces
from producers.reporting.provenance import provenance_lines
from worker.provenance import C2paState, Camera, Credentials, Declared, Generator, Iptc, Provenance, ReadProvenance


def lines(provenance: Provenance) -> dict[str, str]:
    return dict(provenance_lines(ReadProvenance("1", provenance).row()))


def test_an_origin_that_was_not_read_is_not_called_absent() -> None:
    assert [label for label, _ in provenance_lines(None)] == ["Origin"]
    assert "proves nothing" in lines(Provenance())["C2PA manifest"]


@pytest.mark.parametrize("state", C2paState)
def test_each_state_has_its_words(state: C2paState) -> None:
    said = lines(Provenance(Credentials(state, signer="An Agency")))
    assert len(said["C2PA manifest"]) > 20
    assert ("not proven" in said["Signed by"]) == (state is not C2paState.TRUSTED)


@pytest.mark.parametrize("declared", Declared)
def test_each_declaration_has_its_words(declared: Declared) -> None:
    row = ReadProvenance("1", Provenance()).row() | {"declared": declared}
    assert "picture" in dict(provenance_lines(row))["The file says"]


def test_everything_that_a_file_says_is_shown() -> None:
    credentials = Credentials(
        C2paState.TRUSTED, "An Agency", "A Program 2", tuple(f"a{n}" for n in range(12)), ("https://x/digitalCapture",)
    )
    iptc = Iptc(credit="A Credit", ai_system="A System", ai_system_version="3", ai_prompt="a cat")
    said = lines(Provenance(credentials, iptc, Generator("ComfyUI", "a model"), Camera("Canon", "EOS")))
    assert said["Written by"] == "A Program 2"
    assert said["Actions"].endswith("a9 and 2 more")
    assert (said["Generator"], said["Camera"], said["Prompt"]) == ("ComfyUI a model", "Canon EOS", "a cat")
    assert (said["AI system"], said["AI system version"], said["Credit"]) == ("A System", "3", "A Credit")
    assert said["Source type"] == "https://x/digitalCapture"


def test_csv_has_the_state_and_the_declaration() -> None:
    empty = dict.fromkeys(("detector", "stage", "first_score"))
    row = dict.fromkeys(("uri", "external_id", "outcome", "verdict", "score", "answer", "explanation", "contradicts",
                         "cut_off", "reason", "detail", "etag", "sha256", "width", "height", "reused_from",
                         "attempts", "decided_at"), "x") | empty  # fmt: skip
    read = ReadProvenance("1", Provenance(Credentials(C2paState.UNTRUSTED), generator=Generator("ComfyUI"))).row()
    names, *rows = "".join(csv_pieces([[row | {"provenance": read}, row | {"provenance": None}]])).splitlines()
    assert names.endswith("decided_at,c2pa,declared,stage,first_score,detectors_differ")
    assert [one.rpartition("x,")[2] for one in rows] == ["untrusted,generated,,,", ",,,,"]
