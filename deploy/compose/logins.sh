#!/bin/sh
# Postgres' image runs this when it makes the database: a login for each process. `fakesweep roles` gives them rights.
set -eu
for login in worker producer web webhooks grafana; do
  psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --username="$POSTGRES_USER" --dbname="$POSTGRES_DB" \
    --set=login="$login" --set=password="$(cat "${SECRETS:-/run/secrets}/postgres_$login")" <<'SQL'
CREATE ROLE :"login" LOGIN PASSWORD :'password';
SQL
done
