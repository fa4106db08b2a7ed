"""Hashes of contents, by which near duplicates are found.

A hash of 256 bits is looked up by its 16 words of 16 bits, each in an index of its own. An index holds only what is
searched, and the whole hash beside the word, so that a search reads no row of the table.

Additive: the previous release neither reads nor writes these tables, and its findings fire the same triggers.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_NEAR_WORDS = """
CREATE FUNCTION pdq_near_words(word int) RETURNS int[] LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
ARRAY[word, word # 1, word # 2, word # 4, word # 8, word # 16, word # 32, word # 64, word # 128, word # 256, word # 512,
      word # 1024, word # 2048, word # 4096, word # 8192, word # 16384, word # 32768]
"""

# The hash may be stored after the finding that puts the content in question: the detector may have judged it before
# there were hashes. Workers are not allowed to read `contents`.
_HASHED = """
CREATE FUNCTION content_hashed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp SET jit = off AS $$
BEGIN
    NEW.in_question := NEW.in_question OR EXISTS (SELECT FROM contents c WHERE c.sha256 = NEW.sha256);
    RETURN NEW;
END $$;
CREATE TRIGGER content_hashed BEFORE INSERT ON content_hashes FOR EACH ROW EXECUTE FUNCTION content_hashed();
"""

# The finding may also come after the hash: a scan with other thresholds may call the same verdict fake. This is an
# array and not a join, because for a join the planner may read all hashes.
_IN_QUESTION = """
CREATE FUNCTION contents_in_question() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp SET jit = off AS $$
BEGIN
    PERFORM FROM content_hashes h
    WHERE h.sha256 = ANY (ARRAY(SELECT a.sha256 FROM added a)) AND NOT h.in_question
    ORDER BY h.sha256 COLLATE "C"
    FOR NO KEY UPDATE;
    IF FOUND THEN
        UPDATE content_hashes SET in_question = true
        WHERE sha256 = ANY (ARRAY(SELECT a.sha256 FROM added a)) AND NOT in_question;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER contents_in_question AFTER INSERT ON contents REFERENCING NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION contents_in_question();
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "content_hashes",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("pdq", postgresql.BIT(length=256), nullable=False),
        sa.Column("quality", sa.SmallInteger(), nullable=False),
        sa.Column("in_question", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_content_hashes")),
    )
    for number in range(16):
        op.create_index(
            op.f(f"ix_content_hashes_word_{number}"),
            "content_hashes",
            [sa.text(f"(substring(pdq, {16 * number + 1}, 16)::int)")],
            postgresql_include=["pdq"],
            postgresql_where=sa.text("in_question AND quality >= 50"),
        )
    op.execute(_NEAR_WORDS)
    schema = op.get_bind().execute(sa.text("SELECT quote_ident(current_schema())")).scalar()
    for function in (_HASHED, _IN_QUESTION):
        op.execute(function.replace("{schema}", str(schema)))
    for name in ("content_hashed", "contents_in_question"):
        op.execute(f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("DROP TRIGGER contents_in_question ON contents")
    op.drop_table("content_hashes")
    for name in ("contents_in_question", "content_hashed", "pdq_near_words"):
        op.execute(f"DROP FUNCTION {name}")
