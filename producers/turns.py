"""Which contents wait for a person, and whose words are withheld from whom: one rule, as conditions in SQL.

The queue of the desk, near duplicates and the API share them. `c` is a row of `contents`.
"""

ATTENTION = "c.verdict <> 'real' AND NOT c.superseded"
"""What a detector's newest word is worth looking at."""
WAITS = f"{ATTENTION} AND c.statement IS NULL"
"""As in the view review_queue."""


def silent(content: str, person: str) -> str:
    """Whether a person has no word on a content that counts. Both are SQL: a column, or a parameter such as `:me`."""
    # OFFSET 0: the planner would compare each second look with all that the person has reviewed.
    return (
        f"NOT EXISTS (SELECT FROM reviews r WHERE r.sha256 = {content} AND r.reviewer = {person}"  # noqa: S608 - our own texts
        " AND r.statement IS NOT NULL AND NOT EXISTS (SELECT FROM withdrawals w WHERE w.review_id = r.id) OFFSET 0)"
    )


def blind(content: str, person: str) -> str:
    """Whether a person is to look at a content for the second time, and must not know what others said.

    `l` is a row of `second_looks`. The first word may be withdrawn while they look.
    """
    return f"l.sha256 = {content} AND l.first_reviewer <> {person} AND {silent(content, person)}"
