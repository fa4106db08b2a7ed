"""Measures how far reviewers agree."""

import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from sqlalchemy import text

from worker.database import Database, transaction
from worker.tables import Statement

ENOUGH = 20
"""With fewer contents in common, a coefficient means nothing."""

# The first statement of each person, for contents with statements from two or more people. If an author took a
# statement back after somebody else had spoken, it is still their first: they may have seen what the other said.
_FIRST_WORDS = """
WITH words AS (
    SELECT DISTINCT ON (r.sha256, r.reviewer) r.sha256, r.reviewer, r.statement
    FROM reviews r LEFT JOIN withdrawals w ON w.review_id = r.id
    WHERE r.sha256 IN (SELECT several.sha256 FROM reviews several WHERE several.kind = 'second')
      AND r.statement IS NOT NULL AND r.kind <> 'appeal'
      AND (w.review_id IS NULL
           OR EXISTS (SELECT FROM reviews o WHERE o.sha256 = r.sha256 AND o.reviewer <> r.reviewer
                      AND o.created_at < w.withdrawn_at)
           AND EXISTS (SELECT FROM reviews o WHERE o.sha256 = r.sha256 AND o.reviewer = r.reviewer
                       AND o.statement IS NOT NULL AND o.kind <> 'appeal'
                       AND NOT EXISTS (SELECT FROM withdrawals t WHERE t.review_id = o.id)))
    ORDER BY r.sha256, r.reviewer, r.created_at, r.id
)
SELECT sha256, reviewer, statement FROM (SELECT *, count(*) OVER (PARTITION BY sha256) AS people FROM words) AS told
WHERE people > 1
ORDER BY sha256, reviewer
"""


@dataclass(frozen=True)
class Pair:
    """Two reviewers and the contents that both reviewed. `kappa` is Cohen's. If it has no meaning, it is None, and
    `why` says so.
    """

    first: str
    second: str
    contents: int
    agreed: int
    kappa: float | None
    why: str | None


@dataclass(frozen=True)
class Agreement:
    """`alpha` is Krippendorff's, for all contents that two or more people reviewed. If it has no meaning, it is
    None, and `why` says so.
    """

    contents: int
    reviewers: int
    alpha: float | None
    why: str | None
    pairs: Sequence[Pair]


def agreement(database: Database) -> Agreement:
    """Computes the agreement from each person's first statement about a content. Appeals are left out, and so are
    people who took all their statements back.
    """
    words: dict[str, dict[str, str]] = defaultdict(dict)
    with transaction(database) as session:
        for sha256, reviewer, statement in session.execute(text(_FIRST_WORDS)):
            words[sha256][reviewer] = statement
    return of_words(words)


def of_words(words: Mapping[str, Mapping[str, str]]) -> Agreement:
    """Computes the same from given statements, by content and reviewer."""
    people = sorted({reviewer for said in words.values() for reviewer in said})
    both: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for said in words.values():
        for first, second in combinations(sorted(said), 2):
            both[first, second].append((said[first], said[second]))
    pairs = [_pair(first, second, told) for (first, second), told in sorted(both.items())]
    why = _too_little(len(words), {word for said in words.values() for word in said.values()})
    alpha = None if why else _alpha(words, people)
    return Agreement(len(words), len(people), alpha, why, pairs)


def _too_little(contents: int, values: set[str]) -> str | None:
    if contents < ENOUGH:
        return f"too few: {contents} contents, and {ENOUGH} are needed"
    return "all reviewers say the same about all contents, so there is nothing to measure" if len(values) == 1 else None


def _pair(first: str, second: str, told: Sequence[tuple[str, str]]) -> Pair:
    agreed = sum(one == other for one, other in told)
    why = _too_little(len(told), {word for both in told for word in both})
    kappa = None if why else _kappa(told)
    return Pair(first, second, len(told), agreed, kappa, why)


def _kappa(told: Sequence[tuple[str, str]]) -> float:
    from sklearn.metrics import cohen_kappa_score  # noqa: PLC0415 - takes a second; only this page needs it

    first, second = zip(*told, strict=True)
    return float(cohen_kappa_score(first, second))


def _alpha(words: Mapping[str, Mapping[str, str]], people: Sequence[str]) -> float:
    import krippendorff  # noqa: PLC0415 - likewise
    import numpy as np  # noqa: PLC0415 - likewise

    codes = {str(statement): number for number, statement in enumerate(Statement)}
    ratings = np.full((len(people), len(words)), np.nan)
    row_of = {name: row for row, name in enumerate(people)}
    for column, said in enumerate(words.values()):
        for name, word in said.items():
            ratings[row_of[name], column] = codes[word]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(krippendorff.alpha(reliability_data=ratings, level_of_measurement="nominal"))
