{{/* Who may come in. They take (dict "root" $ "component" "worker"). */}}
{{- define "fakesweep.ingress" -}}
{{- $from := .root.Values.networkPolicy.ingress -}}
{{- if eq .component "web" -}}
- ports: [{port: http, protocol: TCP}]
  {{- with $from.web.from }}
  from: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- else if ne .component "migrate" -}}
- ports: [{port: metrics, protocol: TCP}]
  {{- with $from.metrics.from }}
  from: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- else -}}
[]
{{- end }}
{{- end -}}

{{/* Where it may go. Only these processes need the internet: see `fakesweep.needsInternet`. */}}
{{- define "fakesweep.egress" -}}
{{- $root := .root -}}
{{- $to := $root.Values.networkPolicy.egress -}}
{{- $where := list "dns" -}}
{{- if include "fakesweep.role" . }}{{ $where = append $where "database" }}{{ end -}}
{{- if include "fakesweep.needsBroker" . }}{{ $where = append $where "broker" }}{{ end -}}
{{- if has .component (list "worker" "web" "nightly") }}{{ $where = append $where "s3" }}{{ end -}}
{{- if and $root.Values.sentry.existingSecret (ne .component "migrate") }}{{ $where = append $where "sentry" }}{{ end -}}
{{- if include "fakesweep.needsInternet" . }}{{ $where = append $where "internet" }}{{ end -}}
{{- range $name := $where -}}
{{- $rule := index $to $name }}
- ports:
    {{- range $rule.ports }}
    - {port: {{ . }}, protocol: TCP}
    {{- if eq $name "dns" }}
    - {port: {{ . }}, protocol: UDP}
    {{- end }}
    {{- end }}
  {{- $peers := $rule.to }}
  {{- if and (eq $name "database") $root.Values.bundled.postgres.enabled }}
  {{- $peers = list (dict "podSelector" (dict "matchLabels" (include "fakesweep.selector" (dict "root" $root "component" "postgres") | fromYaml))) }}
  {{- else if and (eq $name "broker") $root.Values.bundled.rabbitmq.enabled }}
  {{- $peers = list (dict "podSelector" (dict "matchLabels" (include "fakesweep.selector" (dict "root" $root "component" "rabbitmq") | fromYaml))) }}
  {{- end }}
  {{- with $peers }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* listen asks SQS, webhooks sends to receivers, web asks an OpenID Connect provider, and a worker that is not offline asks the model hub. */}}
{{- define "fakesweep.needsInternet" -}}
{{- $v := .root.Values -}}
{{- if has .component (list "listen" "webhooks") -}}yes
{{- else if and (eq .component "web") (eq $v.web.login "oidc") -}}yes
{{- else if and (eq .component "worker") (not $v.worker.offline) -}}yes
{{- end -}}
{{- end -}}
