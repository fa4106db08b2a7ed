"""The rules of the fields of a statement of reasons, as the DSA Transparency Database publishes them."""

from collections.abc import Mapping
from typing import Any

import pytest

from producers.dsa.fields import FIELDS, Kind, faults

RIGHT: dict[str, Any] = {
    "decision_visibility": ["DECISION_VISIBILITY_CONTENT_LABELLED"],
    "decision_ground": "DECISION_GROUND_INCOMPATIBLE_CONTENT",
    "incompatible_content_ground": "Terms of service, section 4.2",
    "incompatible_content_explanation": "Pictures that a program made must be marked as such.",
    "category": "STATEMENT_CATEGORY_OTHER_VIOLATION_TC",
    "content_type": ["CONTENT_TYPE_IMAGE", "CONTENT_TYPE_SYNTHETIC_MEDIA"],
    "territorial_scope": ["DE", "FR"],
    "content_date": "2026-11-20",
    "application_date": "2026-11-27",
    "decision_facts": "A detector found the picture, and a person decided that it is generated.",
    "source_type": "SOURCE_VOLUNTARY",
    "automated_detection": "Yes",
    "automated_decision": "AUTOMATED_DECISION_PARTIALLY",
    "puid": "fakesweep-1-20261127000000000000",
}
"""A statement with what the rules need, and nothing else."""

PUBLISHED_EXAMPLE: dict[str, Any] = {
    "decision_visibility": ["DECISION_VISIBILITY_CONTENT_DISABLED"],
    "decision_monetary": "DECISION_MONETARY_TERMINATION",
    "end_date_monetary_restriction": "2023-08-08",
    "decision_provision": "DECISION_PROVISION_TOTAL_SUSPENSION",
    "decision_account": "DECISION_ACCOUNT_SUSPENDED",
    "account_type": "ACCOUNT_TYPE_BUSINESS",
    "decision_ground": "DECISION_GROUND_INCOMPATIBLE_CONTENT",
    "decision_ground_reference_url": "https://www.anurl.com",
    "content_type": ["CONTENT_TYPE_VIDEO", "CONTENT_TYPE_AUDIO", "CONTENT_TYPE_SYNTHETIC_MEDIA"],
    "category": "STATEMENT_CATEGORY_CYBER_VIOLENCE_AGAINST_WOMEN",
    "incompatible_content_ground": "incompatible content grounds",
    "incompatible_content_explanation": "incompatible content explanation",
    "incompatible_content_illegal": "Yes",
    "territorial_scope": ["PT", "ES", "DE"],
    "content_language": "EN",
    "content_date": "2023-08-08",
    "application_date": "2023-08-08",
    "decision_facts": "facts about the decision",
    "source_type": "SOURCE_TRUSTED_FLAGGER",
    "automated_detection": "No",
    "automated_decision": "AUTOMATED_DECISION_PARTIALLY",
    "puid": "TK421",
}
"""The example of the API's documentation, with the fields that the API would keep of it (without content_id)."""

NO_TEXT, TOO_LONG = "", "x" * 501
WRONG: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("decision_visibility", {"decision_visibility": None}),
    ("decision_visibility", {"decision_visibility": []}),
    ("decision_visibility", {"decision_visibility": "DECISION_VISIBILITY_CONTENT_LABELLED"}),
    ("decision_visibility", {"decision_visibility": ["DECISION_VISIBILITY_CONTENT_HIDDEN"]}),
    ("decision_visibility", {"decision_visibility": [["DECISION_VISIBILITY_OTHER"]]}),
    ("decision_visibility_other", {"decision_visibility": ["DECISION_VISIBILITY_OTHER"]}),
    ("decision_visibility_other", {"decision_visibility_other": "blurred"}),
    (
        "decision_visibility_other",
        {"decision_visibility": ["DECISION_VISIBILITY_OTHER"], "decision_visibility_other": TOO_LONG},
    ),
    ("decision_monetary", {"decision_monetary": "DECISION_MONETARY_FINE"}),
    ("decision_monetary_other", {"decision_monetary": "DECISION_MONETARY_OTHER"}),
    ("decision_monetary_other", {"decision_monetary_other": "no bonus"}),
    ("decision_provision", {"decision_provision": "DECISION_PROVISION_OTHER"}),
    ("decision_account", {"decision_account": "DECISION_ACCOUNT_OTHER"}),
    ("account_type", {"account_type": "Business"}),
    ("decision_facts", {"decision_facts": None}),
    ("decision_facts", {"decision_facts": "  "}),
    ("decision_facts", {"decision_facts": "x" * 5001}),
    ("decision_ground", {"decision_ground": "DECISION_GROUND_OTHER"}),
    ("illegal_content_legal_ground", {"decision_ground": "DECISION_GROUND_ILLEGAL_CONTENT"}),
    ("illegal_content_explanation", {"decision_ground": "DECISION_GROUND_ILLEGAL_CONTENT"}),
    ("incompatible_content_ground", {"decision_ground": "DECISION_GROUND_ILLEGAL_CONTENT"}),
    ("illegal_content_explanation", {"illegal_content_explanation": "it is illegal"}),
    ("incompatible_content_ground", {"incompatible_content_ground": NO_TEXT}),
    ("incompatible_content_ground", {"incompatible_content_ground": TOO_LONG}),
    ("incompatible_content_explanation", {"incompatible_content_explanation": "x" * 2001}),
    ("incompatible_content_illegal", {"incompatible_content_illegal": "Maybe"}),
    ("decision_ground_reference_url", {"decision_ground_reference_url": "our terms"}),
    ("decision_ground_reference_url", {"decision_ground_reference_url": "https://[x"}),
    ("decision_ground_reference_url", {"decision_ground_reference_url": "https://example.org/" + TOO_LONG}),
    ("category", {"category": None}),
    ("category", {"category": "STATEMENT_CATEGORY_NON_CONSENSUAL_BEHAVIOUR"}),  # of the schema before July 2025
    ("category_addition", {"category_addition": ["Violence"]}),
    ("category_specification", {"category_specification": ["KEYWORD_DISINFORMATION"]}),  # likewise
    ("category_specification_other", {"category_specification_other": "drawing"}),
    ("content_type", {"content_type": []}),
    ("content_type_other", {"content_type": ["CONTENT_TYPE_OTHER"]}),
    ("content_type_other", {"content_type_other": "sticker"}),
    ("content_language", {"content_language": "en"}),
    ("content_date", {"content_date": None}),
    ("content_date", {"content_date": "1999-12-31"}),
    ("content_date", {"content_date": "2026-11-27T02:00:00"}),
    ("content_date", {"content_date": "20261127"}),
    ("application_date", {"application_date": "2019-12-31"}),
    ("application_date", {"application_date": "2038-01-02"}),
    ("end_date_visibility_restriction", {"end_date_visibility_restriction": "2026-11-26"}),
    ("territorial_scope", {"territorial_scope": []}),
    ("territorial_scope", {"territorial_scope": ["GB"]}),
    ("source_type", {"source_type": "SOURCE_AI"}),
    ("source_identity", {"source_identity": "Somebody"}),
    ("automated_detection", {"automated_detection": True}),
    ("automated_decision", {"automated_decision": "AUTOMATED_DECISION_NO"}),
    ("puid", {"puid": None}),
    ("puid", {"puid": "s3://bucket/anna.jpg"}),
    ("puid", {"puid": "a b"}),
    ("puid", {"puid": TOO_LONG}),
    ("note", {"note": "anything"}),
)


def test_what_the_rules_need_passes_and_so_does_the_published_example() -> None:
    assert faults(RIGHT) == []
    assert faults(PUBLISHED_EXAMPLE) == []


@pytest.mark.parametrize(("field", "change"), WRONG)
def test_a_wrong_record_is_refused_at_its_field(field: str, change: Mapping[str, Any]) -> None:
    assert field in {fault.field for fault in faults({**RIGHT, **change})}


@pytest.mark.parametrize("field", [one for one in FIELDS if one.needed and one.with_ is None])
def test_a_field_that_is_needed_is_missed(field: Any) -> None:
    without = {name: value for name, value in RIGHT.items() if name != field.name}
    assert [str(fault) for fault in faults(without)][:1] == [f"{field.name} is missing"]


@pytest.mark.parametrize("field", [one for one in FIELDS if one.kind is Kind.ONE])
def test_each_published_value_is_accepted(field: Any) -> None:
    for value in field.values:
        assert not [f for f in faults(PUBLISHED_EXAMPLE | {field.name: value}) if f.field == field.name]


def test_a_text_may_have_as_many_characters_as_are_published_and_no_more() -> None:
    limits = {one.name: one.longest for one in FIELDS if one.kind is Kind.TEXT}
    assert limits.pop("decision_facts") == 5000
    assert limits.pop("illegal_content_explanation") == limits.pop("incompatible_content_explanation") == 2000
    assert set(limits.values()) == {500}
    assert faults(RIGHT | {"decision_facts": "x" * 5000}) == []
