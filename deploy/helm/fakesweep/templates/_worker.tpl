{{- define "fakesweep.workerEnvironment" -}}
{{- with .Values.worker -}}
- {name: FAKESWEEP_DETECTOR, value: {{ .detector | quote }}}
{{- if .model }}
- {name: FAKESWEEP_MODEL, value: {{ .model | quote }}}
{{- end }}
{{- if .revision }}
- {name: FAKESWEEP_REVISION, value: {{ .revision | quote }}}
{{- end }}
{{- /* The image also keeps here what vLLM, torch and Triton compile. */}}
- {name: HOME, value: /var/cache/fakesweep}
- {name: FAKESWEEP_MODEL_CACHE, value: /var/cache/fakesweep/models}
- {name: HF_HOME, value: /var/cache/fakesweep/huggingface}
{{- if .offline }}
- {name: HF_HUB_OFFLINE, value: "1"}
{{- end }}
- {name: VLLM_NO_USAGE_STATS, value: "1"}
- {name: FAKESWEEP_HEALTH_PORT, value: "9100"}
- {name: FAKESWEEP_THREADS, value: {{ .threads | quote }}}
- {name: FAKESWEEP_LIVE_THREADS, value: {{ .liveThreads | quote }}}
- {name: FAKESWEEP_DATABASE_CONNECTIONS, value: {{ .databaseConnections | quote }}}
- {name: FAKESWEEP_IMAGE_MEMORY_MIB, value: {{ .imageMemoryMib | quote }}}
- {name: FAKESWEEP_ENGINE_STALL_S, value: {{ .engineStallSeconds | quote }}}
{{- with .queues }}
- {name: FAKESWEEP_QUEUES, value: {{ join "," . | quote }}}
{{- end }}
{{- end }}
{{- end -}}

{{/* One GPU for each pod: a second one would be idle. For more GPUs, run more replicas. */}}
{{- define "fakesweep.workerResources" -}}
{{- $resources := deepCopy .Values.worker.resources -}}
{{- with .Values.worker.gpu }}
{{- if .enabled }}
{{- $_ := set $resources "limits" (merge (dict .resource 1) (default dict $resources.limits)) }}
{{- end }}
{{- end }}
{{- toYaml $resources }}
{{- end -}}

{{- define "fakesweep.modelVolume" -}}
- name: cache
{{- with .Values.worker.modelCache }}
{{- if eq .type "pvc" }}
  persistentVolumeClaim: {claimName: {{ default (printf "%s-models" (include "fakesweep.fullname" $)) .existingClaim }}}
{{- else if eq .type "hostPath" }}
  hostPath: {path: {{ .hostPath | quote }}, type: Directory}
{{- else if eq .type "ephemeral" }}
  ephemeral:
    volumeClaimTemplate:
      spec: {{- include "fakesweep.claim" (dict "size" .size "storageClass" .storageClass "accessMode" "ReadWriteOnce") | nindent 8 }}
{{- else }}
  emptyDir: {sizeLimit: {{ .size }}}
{{- end }}
{{- end }}
{{- end -}}

{{- define "fakesweep.claim" -}}
accessModes: [{{ .accessMode }}]
{{- with .storageClass }}
storageClassName: {{ . }}
{{- end }}
resources: {requests: {storage: {{ .size }}}}
{{- end -}}
