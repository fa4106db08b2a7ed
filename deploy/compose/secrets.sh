#!/bin/sh
# Makes the passwords of compose.yaml, each in a file of the folder `secrets` beside this script. Run it once.
# The folder is yours alone. The files in it can be read by all, because each container has another user.
set -eu
cd "$(dirname "$0")"
umask 022

if [ -e secrets ]; then
  echo "secrets.sh: there is a folder secrets already; the containers have stored its passwords, so it stays as it is." \
    "To start again, remove the containers with their volumes, and then the folder" >&2
  exit 1
fi
command -v openssl >/dev/null || { echo "secrets.sh: openssl is missing: install it" >&2; exit 1; }

new() { openssl rand -hex 24; }
put() { printf '%s\n' "$2" >"secrets.new/$1"; }

rm -rf secrets.new
mkdir -m 700 secrets.new

owner=$(new)
put postgres_password "$owner"
put database_url_owner "postgresql://postgres:$owner@postgres:5432/fakesweep"
for login in worker producer web webhooks; do
  password=$(new)
  put "postgres_$login" "$password"
  put "database_url_$login" "postgresql://$login:$password@postgres:5432/fakesweep"
done
put postgres_grafana "$(new)"

broker=$(new)
put rabbitmq_user "default_user = fakesweep
default_pass = $broker"
put broker_url "amqp://fakesweep:$broker@rabbitmq:5672//"

reader=$(new) admin=$(new)
put aws_credentials "[default]
aws_access_key_id = reader
aws_secret_access_key = $reader"
put aws_credentials_admin "[default]
aws_access_key_id = admin
aws_secret_access_key = $admin"
put s3_identities "{\"identities\": [
  {\"name\": \"admin\", \"credentials\": [{\"accessKey\": \"admin\", \"secretKey\": \"$admin\"}], \"actions\": [\"Admin\"]},
  {\"name\": \"reader\", \"credentials\": [{\"accessKey\": \"reader\", \"secretKey\": \"$reader\"}], \"actions\": [\"Read\", \"List\"]}
]}"

put web_secret "$(new)"
proxy=$(new)
put web_proxy_secret "$proxy"
put desk_proxy_header "proxy_set_header X-Fakesweep-Proxy-Secret $proxy;"
desk=$(new)
put desk_password "$desk"
put desk_people "lead:$(printf '%s\n' "$desk" | openssl passwd -6 -stdin)"
put grafana_admin "$(new)"

mv secrets.new secrets
set -- secrets/*
echo "Made $# files in $(pwd)/secrets. The desk's user is lead, with the password in desk_password." \
  "Grafana's is admin, with the password in grafana_admin."
