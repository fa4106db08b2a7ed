{{/* What all our pods have in common. They take (dict "root" $ "component" "worker"). */}}

{{- define "fakesweep.podSecurity" -}}
automountServiceAccountToken: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "fakesweep.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{/* Where the pod may run. */}}
{{- define "fakesweep.placement" -}}
{{- $own := index .root.Values .component -}}
{{- with $own.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $own.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $own.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $own.topologySpreadConstraints }}
topologySpreadConstraints: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $own.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{/* The metadata of the pod template. If a file that a process reads at its start changes, its pods are replaced. */}}
{{- define "fakesweep.podMetadata" -}}
{{- $own := index .root.Values .component -}}
labels:
  {{- include "fakesweep.labels" . | nindent 2 }}
  {{- with $own.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
annotations:
  kubectl.kubernetes.io/default-container: {{ .component }}
  {{- with list $own.schedule $own.reasons | compact }}
  checksum/files: {{ join "\n" . | sha256sum }}
  {{- end }}
  {{- with $own.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* A folder for temporary files, and the secrets of this process. `role` chooses the key of the database. */}}
{{- define "fakesweep.volumes" -}}
- name: tmp
  emptyDir: {sizeLimit: {{ default "2Gi" (index (default dict (index .root.Values .component)) "temporaryStorage") }}}
- name: secrets
  projected:
    defaultMode: 0440
    sources: {{- include "fakesweep.secretSources" . | nindent 6 }}
{{- with .root.Values.caBundle }}
{{- if .configMap }}
- name: ca
  configMap: {name: {{ .configMap }}, items: [{key: {{ .key }}, path: ca.crt}]}
{{- end }}
{{- end }}
{{- with (default dict (index .root.Values .component)).extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "fakesweep.mounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: secrets, mountPath: /run/secrets/fakesweep, readOnly: true}
{{- if .root.Values.caBundle.configMap }}
- {name: ca, mountPath: /run/ca, readOnly: true}
{{- end }}
{{- with (default dict (index .root.Values .component)).extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Migrates the bundled Postgres. A hook cannot do it, because it would run before that Postgres exists. */}}
{{- define "fakesweep.migrateFirst" -}}
{{- if .root.Values.bundled.postgres.enabled }}
- name: migrate
  image: {{ include "fakesweep.image" (dict "root" .root "image" .root.Values.image) }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  command: [tini, --, fakesweep]
  args: [migrate]
  env:
    - {name: DATABASE_URL_FILE, value: /run/secrets/fakesweep/database-url}
  {{- include "fakesweep.containerSecurity" . | nindent 2 }}
  resources: {{- toYaml .root.Values.migration.resources | nindent 4 }}
  volumeMounts:
    - {name: tmp, mountPath: /tmp}
    - {name: secrets, mountPath: /run/secrets/fakesweep, readOnly: true}
{{- end }}
{{- end -}}
