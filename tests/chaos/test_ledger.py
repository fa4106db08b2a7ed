"""The account notices each way in which messages and images can go wrong."""

from pathlib import Path

import pytest

from tests.chaos import ledger
from tests.chaos.ledger import Account, Expected, Row, account_of_findings, account_of_messages

EXPECTED = {"a": Expected("real"), "b": Expected("fake", frozenset({"not_found"}), " (a note)")}
GOOD = [Row("s", "a", "judged", "real", None), Row("s", "b", "reused", "fake", None)]


def test_all_is_well() -> None:
    account = account_of_findings(EXPECTED, GOOD)
    assert account == Account(attempted=2, confirmed=2, decided=2)
    assert account.balanced


def test_an_image_without_an_outcome_is_lost() -> None:
    account = account_of_findings(EXPECTED, GOOD[:1])
    assert account.lost == ("b (a note)",)
    assert not account.balanced


def test_an_outcome_of_nothing_that_was_listed_is_unexpected() -> None:
    account = account_of_findings(EXPECTED, [*GOOD, Row("s", "c", "judged", "real", None)])
    assert account.unexpected == ("c",)
    assert not account.balanced


def test_two_outcomes_are_doubled() -> None:
    account = account_of_findings(EXPECTED, [*GOOD, GOOD[0]])
    assert account.doubled == ("a",)
    assert not account.balanced


@pytest.mark.parametrize(
    ("row", "wrong"),
    [
        (Row("s", "a", "judged", "fake", None), True),
        (Row("s", "a", "failed", None, "not_found"), True),
        (Row("s", "b", "failed", None, "corrupt"), True),
        (Row("s", "b", "failed", None, "not_found"), False),
    ],
)
def test_an_outcome_that_the_image_cannot_have_is_wrong(row: Row, wrong: bool) -> None:
    account = account_of_findings(EXPECTED, [row, *(one for one in GOOD if one.uri != row.uri)])
    assert bool(account.wrong) is wrong
    assert account.balanced is not wrong


def test_an_image_that_cannot_be_fetched_cannot_have_a_verdict() -> None:
    assert not Expected(None, frozenset({"not_found"})).allows(GOOD[0])


def test_messages_are_counted_as_in_jepsens_total_queue() -> None:
    steps = [("attempted", name) for name in ("kept", "unknown", "late", "lost")]
    steps += [("confirmed", "kept"), ("confirmed", "lost")]
    account = account_of_messages(steps, {"kept", "late", "nobody's"}, {"kept": 2, "late": 1, "another": 3})
    assert account.lost == ("lost",)
    assert account.unexpected == ("nobody's",)
    assert (account.attempted, account.confirmed, account.decided) == (4, 2, 3)
    assert (account.duplicated, account.recovered) == (1, 1)


def test_counters_are_compared_with_findings() -> None:
    scan = {"listed": 2, "judged": 1, "reused": 1, "failed": 0, "fake": 1, "real": 1, "uncertain": 0}
    assert ledger.counters_that_differ(scan, GOOD) == {}
    assert ledger.counters_that_differ({**scan, "judged": 2, "listed": 3}, GOOD) == {"judged": (2, 1), "listed": (3, 2)}


def test_a_line_that_was_cut_off_is_no_entry(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    ledger.write(journal, "attempted", "1", "s3://a/b")
    ledger.write(journal, "confirmed", "1", "s3://a/b")
    with journal.open("a") as file:
        file.write("attempted 2")
    assert ledger.lines(journal) == [("attempted", "1", "s3://a/b"), ("confirmed", "1", "s3://a/b")]
    assert ledger.attempts(journal) == ["s3://a/b"]
