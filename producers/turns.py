"""Which contents wait for a person, and from whom other people's statements are withheld: one rule, as SQL conditions.

The queue of the desk, near duplicates and the API share them. `c` is a row of `contents`.
"""

ATTENTION = "c.verdict <> 'real' AND NOT c.superseded"
"""A content that its detector calls fake or uncertain now."""
WAITS = f"{ATTENTION} AND c.statement IS NULL"
"""As in the view review_queue."""


def silent(content: str, person: str) -> str:
    """Returns a condition: the person has made no statement about the content that counts.

    Both arguments are SQL: a column, or a parameter such as `:me`.
    """
    # OFFSET 0, because the planner would otherwise compare each second look with all reviews of the person.
    return (
        f"NOT EXISTS (SELECT FROM reviews r WHERE r.sha256 = {content} AND r.reviewer = {person}"  # noqa: S608 - our own texts
        " AND r.statement IS NOT NULL AND NOT EXISTS (SELECT FROM withdrawals w WHERE w.review_id = r.id) OFFSET 0)"
    )


def blind(content: str, person: str) -> str:
    """Returns a condition: the person is to give a second look to the content, and must not know what others said.

    `l` is a row of `second_looks`. The first review may be withdrawn while they look.
    """
    return f"l.sha256 = {content} AND l.first_reviewer <> {person} AND {silent(content, person)}"
