{{/* A Job that migrates. Takes root, component, hook, arguments, suffix. A failed one stays, with its log. */}}
{{- define "fakesweep.migration" -}}
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ include "fakesweep.fullname" .root }}-migrate{{ .suffix }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "fakesweep.labels" . | nindent 4 }}
  annotations:
    helm.sh/hook: {{ .hook }}
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
spec:
  backoffLimit: 3
  activeDeadlineSeconds: {{ .root.Values.migration.timeoutSeconds }}
  template:
    metadata:
      labels: {{- include "fakesweep.labels" . | nindent 8 }}
    spec:
      restartPolicy: Never
      {{- include "fakesweep.podSecurity" . | nindent 6 }}
      containers:
        - name: migrate
          image: {{ include "fakesweep.image" (dict "root" .root "image" .root.Values.image) }}
          imagePullPolicy: {{ .root.Values.image.pullPolicy }}
          command: [tini, --, fakesweep]
          args: {{ toJson .arguments }}
          env: {{- include "fakesweep.environment" . | nindent 12 }}
          {{- include "fakesweep.containerSecurity" . | nindent 10 }}
          resources: {{- toYaml .root.Values.migration.resources | nindent 12 }}
          volumeMounts: {{- include "fakesweep.mounts" . | nindent 12 }}
      volumes: {{- include "fakesweep.volumes" . | nindent 8 }}
{{- end -}}
