{{/* Everything that is missing or does not fit together, one line each. */}}
{{- define "fakesweep.faults" -}}
{{- $v := .Values -}}
{{- include "fakesweep.faultsOfServices" . }}
{{- include "fakesweep.faultsOfNames" . }}
{{- include "fakesweep.faultsOfSettings" . }}
{{- if $v.worker.enabled }}{{ include "fakesweep.faultsOfWorker" . }}{{ end }}
{{- if $v.web.enabled }}{{ include "fakesweep.faultsOfWeb" . }}{{ end }}
{{- if and $v.nightly.enabled (not $v.nightly.schedule) }}
- nightly.schedule is empty: give the TOML file of docs/nightly.md, or set nightly.enabled to false
{{- end }}
{{- if and $v.listen.enabled (not $v.listen.queueUrl) }}
- listen.queueUrl is empty: give the address of the SQS queue that S3 notifies
{{- end }}
{{- end -}}

{{- define "fakesweep.faultsOfServices" -}}
{{- $v := .Values -}}
{{- range $part, $bundle := dict "database" "postgres" "broker" "rabbitmq" }}
{{- $name := (index $v $part).existingSecret }}
{{- $bundled := (index $v.bundled $bundle).enabled }}
{{- if and (not $name) (not $bundled) }}
- {{ $part }}.existingSecret is empty: name a Secret that holds its URL, or set bundled.{{ $bundle }}.enabled to true to try Fakesweep
{{- else if and $name $bundled }}
- {{ $part }}.existingSecret and bundled.{{ $bundle }}.enabled are both set: choose one
{{- end }}
{{- end }}
{{- end -}}

{{- define "fakesweep.faultsOfNames" -}}
{{- if not (regexMatch "^[a-z]" (include "fakesweep.fullname" .)) }}
- the name of the release begins with a digit, and the name of a Service must not: set fullnameOverride
{{- end }}
{{- range $component := list "worker" "web" "nightly" "listen" "webhooks" }}
{{- if (index $.Values $component).enabled }}
{{- $seen := dict }}
{{- range include "fakesweep.wholeEnvironment" (dict "root" $ "component" $component) | fromYamlArray }}
{{- if hasKey $seen .name }}
- {{ $component }}.extraEnv names {{ .name }}, which has a value already: leave it out
{{- end }}
{{- $_ := set $seen .name true }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "fakesweep.faultsOfWorker" -}}
{{- $w := .Values.worker -}}
{{- range $part := list "requests" "limits" }}
{{- if hasKey (default dict (get $w.resources $part)) $w.gpu.resource }}
- worker.resources.{{ $part }} names {{ $w.gpu.resource }}: leave it out; the chart gives each worker one GPU
{{- end }}
{{- end }}
{{- $limit := get (default dict $w.resources.limits) "memory" | toString }}
{{- $mib := 0.0 }}
{{- if hasSuffix "Gi" $limit }}{{ $mib = mulf (trimSuffix "Gi" $limit | float64) 1024 }}{{ end }}
{{- if hasSuffix "Mi" $limit }}{{ $mib = trimSuffix "Mi" $limit | float64 }}{{ end }}
{{- if and (gt $mib 0.0) (lt $mib (addf $w.imageMemoryMib 2048)) }}
- worker.resources.limits.memory is {{ $limit }}: it must be more than worker.imageMemoryMib and 2 GiB for the process
{{- end }}
{{- if and (eq $w.modelCache.accessMode "ReadWriteOncePod") (eq $w.modelCache.type "pvc") (or $w.autoscaling.enabled (gt (int $w.replicas) 1)) }}
- worker.modelCache.accessMode is ReadWriteOncePod, so only one worker could start: choose ReadWriteMany, or the type ephemeral
{{- end }}
{{- if and $w.gpu.enabled $w.offline (not $w.model) }}
- worker.model is empty and worker.offline is true: give s3://bucket/prefix or a folder that holds the model, or set worker.offline to false to download it from the model hub
{{- end }}
{{- if lt (int $w.terminationGracePeriodSeconds) (add (int $w.engineStallSeconds) 15) }}
- worker.terminationGracePeriodSeconds is {{ $w.terminationGracePeriodSeconds }}: it must be at least worker.engineStallSeconds + 15 = {{ add (int $w.engineStallSeconds) 15 }}, so that a worker can finish what it has in hand
{{- end }}
{{- if and (eq $w.modelCache.type "hostPath") (not $w.modelCache.hostPath) }}
- worker.modelCache.hostPath is empty: name a folder of the nodes that the user 10001 may write to
{{- end }}
{{- if $w.autoscaling.enabled }}{{ include "fakesweep.faultsOfScaling" . }}{{ end }}
{{- end -}}

{{- define "fakesweep.faultsOfScaling" -}}
{{- $w := .Values.worker -}}
{{- $a := $w.autoscaling -}}
{{- if not (or .Values.broker.management.existingSecret .Values.bundled.rabbitmq.enabled) }}
- broker.management.existingSecret is empty: KEDA needs the address of RabbitMQ's HTTP API; name a Secret that holds it
{{- end }}
{{- if lt (int (include "fakesweep.scanTarget" .)) (int $w.threads) }}
- queue.maxDepth is {{ int .Values.queue.maxDepth }}, which gives {{ $a.maxReplicas }} workers {{ include "fakesweep.scanTarget" . }} messages each, fewer than the {{ $w.threads }} that each has in hand: set it to {{ include "fakesweep.leastDepth" . }} or more, or lower worker.autoscaling.maxReplicas
{{- end }}
{{- if gt (int $a.minReplicas) (int $a.maxReplicas) }}
- worker.autoscaling.minReplicas is {{ $a.minReplicas }}, and maxReplicas is only {{ $a.maxReplicas }}: lower the first or raise the second
{{- end }}
{{- if and (gt (int $a.floor.replicas) 0) (eq $a.floor.start $a.floor.end) }}
- worker.autoscaling.floor.start and end are the same: the workers would stop when they start
{{- end }}
{{- if gt (int $a.floor.replicas) (int $a.maxReplicas) }}
- worker.autoscaling.floor.replicas is {{ $a.floor.replicas }}, and maxReplicas is only {{ $a.maxReplicas }}: lower the first or raise the second
{{- end }}
{{- end -}}

{{- define "fakesweep.faultsOfWeb" -}}
{{- $w := .Values.web -}}
{{- if ne $w.login "demo" }}
{{- if not $w.existingSecret }}
- web.existingSecret is empty: name a Secret whose key {{ $w.secretKey }} holds 32 random characters or more
{{- end }}
{{- if not $w.url }}
- web.url is empty: give the address at which people reach the desk, such as https://review.example.org
{{- end }}
{{- if and (eq $w.login "oidc") (not (and $w.oidc.issuer $w.oidc.clientId)) }}
- web.oidc.issuer and web.oidc.clientId must both be set, or web.login must be proxy
{{- end }}
{{- else if $w.ingress.enabled }}
- web.login is demo, which lets anybody in: web.ingress.enabled must be false
{{- else if gt (int $w.replicas) 1 }}
- web.login is demo: web.replicas must be 1
{{- else if $w.trustedProxies }}
- web.login is demo, which lets anybody in: web.trustedProxies must be empty
{{- end }}
{{- end -}}

{{/* Variables with their own value in the chart. If a pod had one twice, Kubernetes would ignore one of the two. */}}
{{- define "fakesweep.ownValues" -}}
FAKESWEEP_ALLOWED_BUCKETS: s3.allowedBuckets
FAKESWEEP_BROKER_CA: caBundle.configMap
FAKESWEEP_DATABASE_CONNECTIONS: worker.databaseConnections
FAKESWEEP_DETECTOR: worker.detector
FAKESWEEP_ENGINE_STALL_S: worker.engineStallSeconds
FAKESWEEP_IMAGE_MEMORY_MIB: worker.imageMemoryMib
FAKESWEEP_LIVE_THREADS: worker.liveThreads
FAKESWEEP_MAX_QUEUE_DEPTH: queue.maxDepth
FAKESWEEP_MODEL: worker.model
FAKESWEEP_MODEL_CACHE: worker.modelCache
FAKESWEEP_NIGHTLY: nightly.schedule
FAKESWEEP_QUEUES: worker.queues
FAKESWEEP_REVISION: worker.revision
FAKESWEEP_THREADS: worker.threads
FAKESWEEP_TIMEZONE: nightly.timezone
FAKESWEEP_WEBHOOKS_NETWORKS: webhooks.networks
FAKESWEEP_WEB_HOST: web.login
FAKESWEEP_WEB_LOGIN: web.login
FAKESWEEP_WEB_OIDC_CLIENT_ID: web.oidc.clientId
FAKESWEEP_WEB_OIDC_CLIENT_SECRET: web.oidc.clientSecretKey
FAKESWEEP_WEB_OIDC_ISSUER: web.oidc.issuer
FAKESWEEP_WEB_PROXY_HEADER: web.proxy.header
FAKESWEEP_WEB_PROXY_SECRET: web.proxy.secretKey
FAKESWEEP_WEB_REASONS: web.reasons
FAKESWEEP_WEB_SECRET: web.existingSecret
FAKESWEEP_WEB_TRUSTED_PROXIES: web.trustedProxies
FAKESWEEP_WEB_URL: web.url
{{- end -}}

{{- define "fakesweep.faultsOfSettings" -}}
{{- $own := include "fakesweep.ownValues" . | fromYaml -}}
{{- range $name, $_ := .Values.settings }}
{{- with get $own (trimSuffix "_FILE" $name) }}
- settings.{{ $name }} has a value of its own in this chart: set {{ . }}
{{- end }}
{{- if hasSuffix "_PORT" $name }}
- settings.{{ $name }} cannot be set: the chart chooses the port inside the pod
{{- end }}
{{- end }}
{{- end -}}
