"""The file in which a platform says what it does with fakes, and what is refused in it."""

from pathlib import Path

import pytest

from producers.dsa.personal import personal
from producers.dsa.statements import read_uploads
from producers.dsa.templates import read_templates
from worker.errors import UsageError

FILE = """
[statement]
decision_visibility = ["DECISION_VISIBILITY_CONTENT_LABELLED"]
decision_ground = "DECISION_GROUND_INCOMPATIBLE_CONTENT"
incompatible_content_ground = "Terms of service, section 4.2 of 1.1.2026"
incompatible_content_explanation = "Pictures that a program made must be marked as such."
category = "STATEMENT_CATEGORY_OTHER_VIOLATION_TC"
territorial_scope = "EU"
decision_facts = "A detector found the picture, and a person decided that it is generated."

[reason.swapped_face]
category = "STATEMENT_CATEGORY_CYBER_VIOLENCE"
category_specification = ["KEYWORD_NON_CONSENSUAL_MATERIAL_DEEPFAKE"]
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "statement.toml"
    path.write_text(text, "utf-8")
    return path


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(UsageError) as refused:
        read_templates(written(folder, text))
    return str(refused.value)


def test_a_reason_code_replaces_fields_of_the_statement(tmp_path: Path) -> None:
    templates = read_templates(written(tmp_path, FILE))
    plain, swapped = templates.record(None), templates.record("swapped_face")
    assert plain["category"] == "STATEMENT_CATEGORY_OTHER_VIOLATION_TC"
    assert swapped["category"] == "STATEMENT_CATEGORY_CYBER_VIOLENCE"
    assert swapped["decision_facts"] == plain["decision_facts"]
    assert len(plain["territorial_scope"]) == 27
    assert plain["source_type"] == "SOURCE_VOLUNTARY"
    assert plain["automated_decision"] == "AUTOMATED_DECISION_PARTIALLY"


def test_a_reason_with_another_ground_leaves_out_the_fields_of_the_first(tmp_path: Path) -> None:
    illegal = """
[reason.swapped_face]
decision_ground = "DECISION_GROUND_ILLEGAL_CONTENT"
illegal_content_legal_ground = "Section 201b of the penal code"
illegal_content_explanation = "A picture that puts a face on another body is illegal."
source_type = "SOURCE_VOLUNTARY"
"""
    statement = FILE.partition("[reason")[0] + 'source_type = "SOURCE_ARTICLE_16"\nsource_identity = "An office"\n'
    templates = read_templates(written(tmp_path, statement + illegal))
    assert {"incompatible_content_ground", "source_identity"} < set(templates.record(None))
    found = templates.record("swapped_face")
    assert not {"incompatible_content_ground", "incompatible_content_explanation", "source_identity"} & set(found)
    assert found["decision_facts"] == templates.record(None)["decision_facts"]
    wrong = f'{illegal}incompatible_content_illegal = "Yes"\n'
    assert "[reason.swapped_face]: incompatible_content_illegal goes only" in refusal(tmp_path, statement + wrong)


def test_a_field_stays_if_the_reason_repeats_its_value(tmp_path: Path) -> None:
    other = FILE.replace(
        '["DECISION_VISIBILITY_CONTENT_LABELLED"]',
        '["DECISION_VISIBILITY_OTHER"]\ndecision_visibility_other = "blurred"',
    )
    both = 'decision_visibility = ["DECISION_VISIBILITY_OTHER", "DECISION_VISIBILITY_CONTENT_DEMOTED"]\n'
    assert read_templates(written(tmp_path, other + both)).record("swapped_face")["decision_visibility_other"]


def test_what_holds_for_pictures_that_no_detector_found_is_checked_too(tmp_path: Path) -> None:
    text = FILE + '[not_detected]\ndecision_facts = "A user told us."\n'
    found = read_templates(written(tmp_path, text)).record("swapped_face", detected=False)
    assert (found["decision_facts"], found["category"]) == ("A user told us.", "STATEMENT_CATEGORY_CYBER_VIOLENCE")
    said = refusal(tmp_path, text.replace("A user", "The user @anna_smith"))
    assert "[statement] with [not_detected]: decision_facts has the name of an account" in said


def test_an_end_date_may_be_right_for_old_decisions(tmp_path: Path) -> None:
    ended = FILE.replace("[reason", 'end_date_visibility_restriction = "2025-06-30"\n[reason')
    assert read_templates(written(tmp_path, ended)).record(None)["end_date_visibility_restriction"] == "2025-06-30"


def test_a_platform_says_that_its_people_decide_without_the_detector(tmp_path: Path) -> None:
    said = FILE.replace("[reason", 'automated_decision = "AUTOMATED_DECISION_NOT_AUTOMATED"\n[reason')
    assert read_templates(written(tmp_path, said)).record(None)["automated_decision"].endswith("NOT_AUTOMATED")


@pytest.mark.parametrize(
    "text",
    [
        "Uploaded by anna.smith@example.org.",
        "Uploaded by @anna_smith.",
        "The picture s3://photos/anna.",
        "The picture anna-smith.jpg is generated.",
        "The picture with the SHA-256 " + "ab" * 32,
        "Seen from 192.168.20.7.",
        "Seen from 2001:db8::17.",
        "Seen from fe80:0:0:0:1:2:3:4, at night.",
        "Uploaded at https://example.org/@anna.",
        "Uploaded at (example.org/users/anna).",
        "Uploaded at https://example.org/p?user=17",
        "Call +49 30 1234567.",
        "Paid to DE89 3704 0044 0532 0130 00.",
    ],
)
def test_personal_data_in_a_text_is_refused_with_its_place(tmp_path: Path, text: str) -> None:
    facts = "A detector found the picture, and a person decided that it is generated."
    said = refusal(tmp_path, FILE.replace(facts, text))
    assert "[statement]: decision_facts has " in said
    assert "\n" not in said
    said = refusal(tmp_path, f'{FILE}decision_facts = "{text}"\n')
    assert "[reason.swapped_face]: decision_facts has " in said


@pytest.mark.parametrize("address", ["https://x.org/@anna", "https://x.org/users/anna", "https://x.org/terms?user=1"])
def test_an_address_that_may_name_a_person_is_refused(tmp_path: Path, address: str) -> None:
    said = refusal(tmp_path, FILE.replace("[reason", f'decision_ground_reference_url = "{address}"\n[reason'))
    assert "decision_ground_reference_url has a part of an address" in said


def test_the_pseudonym_of_a_reviewer_is_refused_as_a_word(tmp_path: Path) -> None:
    templates = read_templates(written(tmp_path, FILE.replace("and a person", "and Heron")))
    templates.check_names(["ron", "crane"])
    with pytest.raises(UsageError, match=r"\[statement\]: decision_facts has the name of a reviewer: 'heron'"):
        templates.check_names(["heron"])


@pytest.mark.parametrize(
    "text",
    [
        "Section 4.2 of 2026-11-27, version 1.10.2.",
        "Art. 50(4) of Regulation (EU) 2024/1689",
        "5 of 1000000",
        "At 12:30:45, and/or people/animals :: see (https://example.org/terms/4.2)?",
    ],
)
def test_usual_texts_have_no_personal_data(text: str) -> None:
    assert list(personal(text)) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("statement", "cannot be read"),
        ("[reason.other]\ncategory = 'x'", "must hold a table [statement]"),
        (FILE + "[more]\n", "must hold a table [statement]"),
        ("not_detected = 0\n" + FILE, "must hold a table [statement]"),
        (FILE.replace("STATEMENT_CATEGORY_CYBER_VIOLENCE", "VIOLENCE"), "[reason.swapped_face]: category has"),
        (FILE.replace("decision_facts", "facts"), "[statement]: facts is no field"),
        (FILE.replace("[reason", 'puid = "1"\n[reason'), "puid is filled in by the export"),
        (
            FILE.replace("[reason", 'automated_decision = "AUTOMATED_DECISION_FULLY"\n[reason'),
            "people decide at the review desk",
        ),
    ],
)
def test_a_wrong_file_is_refused_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    assert said in refusal(tmp_path, text)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_templates(tmp_path / "none.toml")


def test_days_of_upload_are_read_and_wrong_ones_refused_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "uploads.csv"
    path.write_text("picture,date\ns3://b/a.jpg,2026-11-01\n", "utf-8")
    assert read_uploads(path) == {"s3://b/a.jpg": "2026-11-01"}
    path.write_text("picture,date\ns3://b/a.jpg,yesterday\n", "utf-8")
    with pytest.raises(UsageError, match="line 2: 'yesterday' is no day"):
        read_uploads(path)
    path.write_text("uri,date\n", "utf-8")
    with pytest.raises(UsageError, match="must name the columns picture and date"):
        read_uploads(path)
