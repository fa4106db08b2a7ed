{{/* The environment of our processes, and the secrets behind it. They take (dict "root" $ "component" "worker"). */}}

{{/*
Which login of the database a component has; empty for one that needs no database. listen asks the database when it
starts, but only if it is to ask for a judge or for second opinions.
*/}}
{{- define "fakesweep.role" -}}
{{- $asks := regexMatch "(?m)^--(judge|also)(=|$)" (join "\n" .root.Values.listen.arguments) -}}
{{- $listen := ternary "producer" "" $asks -}}
{{- get (dict "migrate" "owner" "worker" "worker" "web" "web" "nightly" "producer" "webhooks" "webhooks" "listen" $listen) .component -}}
{{- end -}}

{{/* Whether a component uses the broker, S3 and their settings. */}}
{{- define "fakesweep.needsBroker" -}}
{{- if not (has .component (list "migrate" "webhooks")) -}}yes{{- end -}}
{{- end -}}

{{/* All variables of a component's container. */}}
{{- define "fakesweep.wholeEnvironment" -}}
{{- if eq .component "worker" }}{{ include "fakesweep.workerEnvironment" .root }}{{ end }}
{{- if eq .component "web" }}{{ include "fakesweep.webEnvironment" .root }}{{ end }}
{{- if eq .component "nightly" }}
- {name: FAKESWEEP_NIGHTLY_PORT, value: "9090"}
- {name: FAKESWEEP_NIGHTLY, value: /etc/fakesweep/nightly.toml}
- {name: FAKESWEEP_TIMEZONE, value: {{ .root.Values.nightly.timezone | quote }}}
{{- end }}
{{- if eq .component "listen" }}
- {name: FAKESWEEP_LISTEN_PORT, value: "9091"}
{{- end }}
{{- if eq .component "webhooks" }}
- {name: FAKESWEEP_WEBHOOKS_PORT, value: "9092"}
{{- with .root.Values.webhooks.networks }}
- {name: FAKESWEEP_WEBHOOKS_NETWORKS, value: {{ join "," . | quote }}}
{{- end }}
{{- end }}
{{ include "fakesweep.environment" . }}
{{- end -}}

{{- define "fakesweep.environment" -}}
{{- $values := .root.Values -}}
{{- $own := index $values .component -}}
{{- if ne .component "worker" }}
- {name: HOME, value: /tmp}
{{- end }}
{{- if include "fakesweep.role" . }}
- {name: DATABASE_URL_FILE, value: /run/secrets/fakesweep/database-url}
{{- end }}
{{- if and $values.sentry.existingSecret (ne .component "migrate") }}
- {name: SENTRY_DSN_FILE, value: /run/secrets/fakesweep/sentry-dsn}
{{- end }}
{{- if include "fakesweep.needsBroker" . }}
- {name: BROKER_URL_FILE, value: /run/secrets/fakesweep/broker-url}
- {name: FAKESWEEP_MAX_QUEUE_DEPTH, value: {{ int $values.queue.maxDepth | quote }}}
{{- with $values.s3.allowedBuckets }}
- {name: FAKESWEEP_ALLOWED_BUCKETS, value: {{ join "," . | quote }}}
{{- end }}
{{- include "fakesweep.s3Environment" . }}
{{- end }}
{{- if $values.caBundle.configMap }}
- {name: AWS_CA_BUNDLE, value: /run/ca/ca.crt}
- {name: PGSSLROOTCERT, value: /run/ca/ca.crt}
{{- if include "fakesweep.needsBroker" . }}
- {name: FAKESWEEP_BROKER_CA_FILE, value: /run/ca/ca.crt}
{{- end }}
{{- end }}
{{- range $name, $value := $values.settings }}
- {name: {{ $name }}, value: {{ include "fakesweep.text" $value | quote }}}
{{- end }}
{{- with (default dict $own).extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* A value as text. Helm reads each number of a file as a float, whose own text would be 6.7108864e+07. */}}
{{- define "fakesweep.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}{{ printf "%.0f" . }}{{- else -}}{{ toString . }}{{- end -}}
{{- end -}}

{{- define "fakesweep.s3Environment" -}}
{{- with .root.Values.s3 }}
{{- if .region }}
- {name: AWS_REGION, value: {{ .region | quote }}}
{{- end }}
{{- if .endpointUrl }}
- {name: AWS_ENDPOINT_URL_S3, value: {{ .endpointUrl | quote }}}
{{- end }}
{{- if .existingSecret }}
- name: AWS_ACCESS_KEY_ID
  valueFrom: {secretKeyRef: {name: {{ .existingSecret }}, key: {{ .accessKeyIdKey }}}}
- name: AWS_SECRET_ACCESS_KEY
  valueFrom: {secretKeyRef: {name: {{ .existingSecret }}, key: {{ .secretAccessKeyKey }}}}
{{- end }}
{{- end }}
{{- end -}}

{{- define "fakesweep.secretSources" -}}
{{- $values := .root.Values -}}
{{- $bundled := include "fakesweep.bundledSecret" .root -}}
{{- with include "fakesweep.role" . }}
{{- if $values.bundled.postgres.enabled }}
- secret: {name: {{ $bundled }}, items: [{key: DATABASE_URL, path: database-url}]}
{{- else }}
- secret: {name: {{ $values.database.existingSecret }}, items: [{key: {{ index $values.database.keys . }}, path: database-url}]}
{{- end }}
{{- end }}
{{- if include "fakesweep.needsBroker" . }}
{{- if $values.bundled.rabbitmq.enabled }}
- secret: {name: {{ $bundled }}, items: [{key: BROKER_URL, path: broker-url}]}
{{- else }}
- secret: {name: {{ $values.broker.existingSecret }}, items: [{key: {{ $values.broker.key }}, path: broker-url}]}
{{- end }}
{{- end }}
{{- if ne .component "migrate" }}
{{- with $values.sentry }}
{{- if .existingSecret }}
- secret: {name: {{ .existingSecret }}, items: [{key: {{ .key }}, path: sentry-dsn}]}
{{- end }}
{{- end }}
{{- end }}
{{- if eq .component "web" }}
{{- include "fakesweep.webSecrets" .root }}
{{- end }}
{{- end -}}

{{- define "fakesweep.webSecrets" }}
{{- with .Values.web }}
- secret:
    name: {{ default (printf "%s-web" (include "fakesweep.fullname" $)) .existingSecret }}
    items:
      - {key: {{ .secretKey }}, path: web-secret}
      {{- if and (eq .login "oidc") .oidc.clientSecretKey }}
      - {key: {{ .oidc.clientSecretKey }}, path: oidc-client-secret}
      {{- end }}
      {{- if eq .login "proxy" }}
      - {key: {{ .proxy.secretKey }}, path: proxy-secret}
      {{- end }}
{{- end }}
{{- end }}
