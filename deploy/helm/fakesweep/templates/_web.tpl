{{/* With the demo's login, web listens on loopback only. The node cannot reach it, so the probe runs in the container. */}}
{{- define "fakesweep.webProbe" -}}
{{- if eq .Values.web.login "demo" -}}
exec:
  command: [python3, -c, "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8400/v1/openapi.json', timeout=4)"]
{{- else -}}
httpGet: {path: /v1/openapi.json, port: http}
{{- end }}
{{- end -}}

{{- define "fakesweep.webEnvironment" -}}
{{- with .Values.web -}}
- {name: FAKESWEEP_WEB_HOST, value: {{ eq .login "demo" | ternary "127.0.0.1" "0.0.0.0" }}}
- {name: FAKESWEEP_WEB_PORT, value: "8400"}
- {name: FAKESWEEP_WEB_SECRET_FILE, value: /run/secrets/fakesweep/web-secret}
- {name: FAKESWEEP_WEB_LOGIN, value: {{ .login }}}
{{- if .url }}
- {name: FAKESWEEP_WEB_URL, value: {{ .url | quote }}}
{{- end }}
{{- if eq .login "oidc" }}
- {name: FAKESWEEP_WEB_OIDC_ISSUER, value: {{ .oidc.issuer | quote }}}
- {name: FAKESWEEP_WEB_OIDC_CLIENT_ID, value: {{ .oidc.clientId | quote }}}
{{- if .oidc.clientSecretKey }}
- {name: FAKESWEEP_WEB_OIDC_CLIENT_SECRET_FILE, value: /run/secrets/fakesweep/oidc-client-secret}
{{- end }}
{{- else if eq .login "proxy" }}
- {name: FAKESWEEP_WEB_PROXY_HEADER, value: {{ .proxy.header | quote }}}
- {name: FAKESWEEP_WEB_PROXY_SECRET_FILE, value: /run/secrets/fakesweep/proxy-secret}
{{- end }}
{{- with .trustedProxies }}
- {name: FAKESWEEP_WEB_TRUSTED_PROXIES, value: {{ join "," . | quote }}}
{{- end }}
{{- if .reasons }}
- {name: FAKESWEEP_WEB_REASONS, value: /etc/fakesweep/reasons.toml}
{{- end }}
{{- end }}
{{- end -}}
