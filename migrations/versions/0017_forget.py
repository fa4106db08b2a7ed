"""A function that removes what points to a picture, and keeps what was decided about it.

Verdicts, reviews and replaced failures are append-only. The function is the only way to change a row of theirs, and the
trigger lets it change only the columns that point to a picture. In place of a uri stands `forgotten:` and its SHA-256.

Additive: the release before does not call the function. It cannot read a uri that begins with `forgotten:`, so the
command refuses while it is at work.
"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None
works_from = "0013"

_FORGOTTEN_URI = """
CREATE FUNCTION forgotten_uri(uri text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
SELECT CASE WHEN uri LIKE 'forgotten:%' THEN uri
            ELSE 'forgotten:' || encode(sha256(convert_to(uri, 'UTF8')), 'hex') END
$$;
"""

# Two IFs: the trigger for TRUNCATE has no rows. A uri may become its pseudonym, and a text may go: nothing else.
_REFUSE = """
CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    pointing CONSTANT text[] := ARRAY['uri', 'completion', 'explanation', 'explain', 'note', 'detail'];
BEGIN
    IF TG_OP = 'UPDATE' AND current_setting('fakesweep.forgetting', true) = 'yes'
       AND pg_has_role(current_user, (SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'USAGE') THEN
        IF to_jsonb(NEW) - pointing = to_jsonb(OLD) - pointing
           AND to_jsonb(NEW)->>'uri' = forgotten_uri(to_jsonb(OLD)->>'uri')
           AND NOT EXISTS (SELECT FROM unnest(array_remove(pointing, 'uri')) name
                           WHERE to_jsonb(NEW)->name IS DISTINCT FROM to_jsonb(OLD)->name
                             AND coalesce(to_jsonb(NEW)->>name, '') NOT IN ('', 'gone')) THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION '% is append-only: a row is never changed or deleted', TG_TABLE_NAME;
END $$;
"""
_REFUSED = """
CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% is append-only: a row is never changed or deleted', TG_TABLE_NAME;
END $$;
"""

# `places`: uris to forget. `about`: all contents that were at these places. `whole`: those of them that are forgotten
# with all that describes them. `names`: what else may stand for the places in the cursor of a listing, as whole JSON
# texts. A verdict without its explanation is never reused, because no scan asks for the mode `gone`.
#
# The tables are locked in the same order as by workers: objects, content_hashes, provenance, findings, contents and
# what belongs to them, scans. So the external ids are read first: their rows come after the findings that name them.
#
# A finding may come again at a plain uri of the same scan, for example when a message is delivered twice. The first one
# stays. If it had failed, it becomes a replaced failure, as after a retry: a trigger copies failures that are deleted.
# So this step comes before the one of replaced failures.
_FORGET = """
CREATE FUNCTION forget_pictures(places text[], about text[], whole text[], names text[]) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET jit = off AS $$
DECLARE
    done jsonb := '{}';
    found bigint;
    step text[];
    ids CONSTANT text[] := ARRAY(
        SELECT DISTINCT external_id FROM findings WHERE uri = ANY (places) AND external_id IS NOT NULL);
    ended CONSTANT text := 'SELECT id FROM scans WHERE status IN (''done'', ''cancelled'') OR dropped_at IS NOT NULL';
    steps CONSTANT text[] := ARRAY[
        ['explanations', 'UPDATE verdicts SET uri = forgotten_uri(uri), completion = '''', explanation = NULL,
            explain = ''gone'' WHERE sha256 = ANY ($3) AND explain <> ''gone'''],
        ['verdicts', 'UPDATE verdicts SET uri = forgotten_uri(uri) WHERE sha256 = ANY ($2) AND uri = ANY ($1)'],
        ['objects', 'DELETE FROM objects WHERE uri = ANY ($1)'],
        ['perceptual hashes', 'DELETE FROM content_hashes WHERE sha256 = ANY ($3)'],
        ['provenance', 'DELETE FROM provenance WHERE sha256 = ANY ($3)'],
        ['findings that came again', 'DELETE FROM findings f USING unnest($1) place, findings again, findings kept
            WHERE again.uri = place AND kept.uri = forgotten_uri(place)
              AND kept.partition = again.partition AND kept.scan_id = again.scan_id
              AND f.partition = kept.partition AND f.scan_id = kept.scan_id
              AND f.uri = CASE WHEN kept.outcome = ''failed'' THEN kept.uri ELSE again.uri END'],
        ['findings', 'UPDATE findings SET uri = forgotten_uri(uri), external_id = NULL, detail = NULL, etag = NULL,
            reused_from = forgotten_uri(reused_from) WHERE uri = ANY ($1)'],
        ['findings that reuse', 'UPDATE findings SET reused_from = forgotten_uri(reused_from)
            WHERE reused_from = ANY ($1)'],
        ['replaced failures', 'UPDATE replaced_failures SET uri = forgotten_uri(uri), detail = NULL
            WHERE uri = ANY ($1)'],
        ['reviews', 'UPDATE reviews SET uri = forgotten_uri(uri), note = NULL
            WHERE uri = ANY ($1) OR sha256 = ANY ($3) AND (note IS NOT NULL OR uri NOT LIKE ''forgotten:%'')'],
        ['counted places', 'UPDATE contents c SET places = greatest(c.places - gone.places, 0)
            FROM (SELECT sha256, detector_id, count(*) AS places FROM content_places
                  WHERE sha256 = ANY ($2) AND uri = ANY ($1) GROUP BY 1, 2) gone
            WHERE c.sha256 = gone.sha256 AND c.detector_id = gone.detector_id'],
        ['places', 'DELETE FROM content_places WHERE sha256 = ANY ($2) AND uri = ANY ($1)'],
        ['contents in the queue and the history', 'DELETE FROM contents WHERE sha256 = ANY ($3)'],
        ['contents at other places', 'UPDATE contents c SET
            uri = CASE WHEN c.uri = ANY ($1) THEN coalesce(other.uri, forgotten_uri(c.uri)) ELSE c.uri END,
            first_flagged_uri = CASE WHEN c.first_flagged_uri = ANY ($1)
                THEN coalesce(other.uri, forgotten_uri(c.first_flagged_uri)) ELSE c.first_flagged_uri END,
            last_flagged_uri = CASE WHEN c.last_flagged_uri = ANY ($1)
                THEN coalesce(other.uri, forgotten_uri(c.last_flagged_uri)) ELSE c.last_flagged_uri END
            FROM (SELECT k.sha256, k.detector_id,
                         (SELECT min(p.uri) FROM content_places p
                          WHERE p.sha256 = k.sha256 AND p.detector_id = k.detector_id) AS uri
                  FROM contents k WHERE k.sha256 = ANY ($2)) other
            WHERE c.sha256 = other.sha256 AND c.detector_id = other.detector_id
              AND ARRAY[c.uri, c.first_flagged_uri, c.last_flagged_uri] && $1'],
        ['external ids', 'DELETE FROM content_external_ids
            WHERE sha256 = ANY ($3) OR sha256 = ANY ($2) AND external_id = ANY ($5)'],
        ['claims', 'DELETE FROM claims WHERE sha256 = ANY ($3)'],
        ['open pages', 'DELETE FROM looks WHERE sha256 = ANY ($3)'],
        ['skips', 'DELETE FROM skips WHERE sha256 = ANY ($3)'],
        ['second looks', 'DELETE FROM second_looks WHERE sha256 = ANY ($3)'],
        ['suspects', 'DELETE FROM suspects WHERE uri = ANY ($1) AND scan_id IN (' || ended || ')'],
        ['repaired', 'DELETE FROM repaired WHERE uri = ANY ($1) AND scan_id IN (' || ended || ')'],
        ['unpublished messages', 'DELETE FROM unpublished u WHERE scan_id IN (' || ended || ')
            AND EXISTS (SELECT FROM unnest($1) place WHERE strpos(u.messages::text, to_json(place)::text) > 0)'],
        ['cursors', 'UPDATE scans s SET cursor = NULL WHERE cursor IS NOT NULL AND id IN (' || ended || ')
            AND EXISTS (SELECT FROM unnest($4) name WHERE strpos(s.cursor, to_json(name)::text) > 0)'],
        ['sources', 'UPDATE scans s SET source = now.source,
            name = CASE WHEN s.name = s.source OR s.name = ANY ($1) THEN now.source ELSE s.name END,
            listing = CASE WHEN jsonb_typeof(s.listing) = ''object''
                           THEN jsonb_set(s.listing, ''{sources}'', now.sources) ELSE s.listing END
            FROM (SELECT k.id, jsonb_agg(one.text ORDER BY one.n) AS sources,
                         string_agg(one.text, '' '' ORDER BY one.n) FILTER (WHERE one.n <= 3)
                         || CASE WHEN count(*) > 3 THEN '' …'' ELSE '''' END AS source
                  FROM scans k CROSS JOIN LATERAL (
                      SELECT CASE WHEN text = ANY ($1) THEN forgotten_uri(text) ELSE text END AS text, n
                      FROM jsonb_array_elements_text(coalesce(k.listing->''sources'', jsonb_build_array(k.source)))
                      WITH ORDINALITY listed (text, n)) one
                  WHERE k.source = ANY ($1) OR k.listing->''sources'' ?| $1
                  GROUP BY k.id) now
            WHERE s.id = now.id AND s.id IN (' || ended || ')'],
        ['webhooks', 'UPDATE outbox SET answer = NULL, data = data || jsonb_build_object(
            ''uri'', forgotten_uri(data->>''uri''))
            || CASE WHEN data ? ''external_id'' THEN ''{"external_id": null}'' ELSE ''{}'' END::jsonb
            WHERE data->>''uri'' = ANY ($1) OR data->>''sha256'' = ANY ($3)'],
        ['webhooks about scans', 'UPDATE outbox o SET answer = NULL,
            data = o.data || jsonb_build_object(''name'', s.name)
            FROM scans s WHERE o.data->>''scan_id'' = s.id::text AND o.data->>''name'' <> s.name
              AND s.source LIKE ''%forgotten:%''']
    ];
BEGIN
    PERFORM set_config('fakesweep.forgetting', 'yes', true);
    FOREACH step SLICE 1 IN ARRAY steps LOOP
        EXECUTE step[2] USING places, about, whole, names, ids;
        GET DIAGNOSTICS found = ROW_COUNT;
        IF found > 0 THEN
            done := done || jsonb_build_object(step[1], found);
        END IF;
    END LOOP;
    PERFORM set_config('fakesweep.forgetting', '', true);
    PERFORM record_event('forgotten', NULL, coalesce(whole[1], forgotten_uri(places[1])), jsonb_build_object(
        'places', (SELECT jsonb_agg(forgotten_uri(place)) FROM unnest(places) place), 'contents', to_jsonb(whole),
        'rows', done));
    RETURN done;
END $$;
"""

_NAME = "forget_pictures(text[], text[], text[], text[])"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for function in (_FORGOTTEN_URI, _REFUSE, _FORGET):
        op.get_bind().exec_driver_sql(function.replace("%", "%%"))
    schema = op.get_bind().execute(sa.text("SELECT quote_ident(current_schema())")).scalar()
    # As in 0007.
    for name in (_NAME, "refuse_change()"):
        op.execute(f"ALTER FUNCTION {name} SET search_path = {schema}, pg_temp")
    op.execute(f"REVOKE ALL ON FUNCTION {_NAME} FROM PUBLIC")


def downgrade() -> None:
    """Nobody can forget a picture any more. What was forgotten stays so."""
    op.execute(f"DROP FUNCTION {_NAME}")
    op.get_bind().exec_driver_sql(_REFUSED.replace("%", "%%"))
    op.execute("DROP FUNCTION forgotten_uri(text)")
