{{/* Services to try Fakesweep with. Each has one replica and one volume. */}}

{{- define "fakesweep.bundledService" -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "fakesweep.metadata" . | nindent 2 }}
spec:
  ports:
    {{- range $name, $port := .ports }}
    - {name: {{ $name }}, port: {{ $port }}, targetPort: {{ $name }}}
    {{- end }}
  selector: {{- include "fakesweep.selector" . | nindent 4 }}
{{- end -}}

{{/* Both images use the user 999. OnRootMismatch, because RabbitMQ refuses a cookie whose permissions were changed. */}}
{{- define "fakesweep.bundledPod" -}}
automountServiceAccountToken: false
terminationGracePeriodSeconds: 120
securityContext:
  runAsNonRoot: true
  runAsUser: 999
  runAsGroup: 999
  fsGroup: 999
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "fakesweep.bundledHead" -}}
apiVersion: apps/v1
kind: StatefulSet
metadata:
  {{- include "fakesweep.metadata" . | nindent 2 }}
spec:
  replicas: 1
  serviceName: {{ include "fakesweep.fullname" .root }}-{{ .component }}
  selector:
    matchLabels: {{- include "fakesweep.selector" . | nindent 6 }}
  volumeClaimTemplates:
    - metadata: {name: data}
      spec: {{- include "fakesweep.claim" (dict "size" .own.storage "storageClass" .own.storageClass "accessMode" "ReadWriteOnce") | nindent 8 }}
  template:
    metadata:
      labels: {{- include "fakesweep.labels" . | nindent 8 }}
    spec:
      {{- include "fakesweep.bundledPod" . | nindent 6 }}
{{- end -}}

{{- define "fakesweep.postgres" -}}
{{ include "fakesweep.bundledHead" (dict "root" . "component" "postgres" "own" .Values.bundled.postgres) }}
      containers:
        - name: postgres
          image: {{ .Values.bundled.postgres.image }}
          ports: [{name: postgres, containerPort: 5432}]
          env:
            - {name: POSTGRES_USER, value: fakesweep}
            - {name: POSTGRES_DB, value: fakesweep}
            - {name: POSTGRES_PASSWORD_FILE, value: /run/secrets/fakesweep/password}
            - {name: PGDATA, value: /var/lib/postgresql/data/pgdata}
          {{- include "fakesweep.containerSecurity" . | nindent 10 }}
          resources: {requests: {cpu: 250m, memory: 512Mi}, limits: {memory: 2Gi}}
          startupProbe: {exec: {command: [pg_isready, -U, fakesweep, -h, 127.0.0.1]}, periodSeconds: 5, failureThreshold: 60}
          readinessProbe: {exec: {command: [pg_isready, -U, fakesweep, -h, 127.0.0.1]}, periodSeconds: 10}
          livenessProbe: {exec: {command: [pg_isready, -U, fakesweep, -h, 127.0.0.1]}, periodSeconds: 30, failureThreshold: 6}
          volumeMounts:
            - {name: data, mountPath: /var/lib/postgresql/data}
            - {name: run, mountPath: /var/run/postgresql}
            - {name: shared-memory, mountPath: /dev/shm}
            - {name: tmp, mountPath: /tmp}
            - {name: secrets, mountPath: /run/secrets/fakesweep, readOnly: true}
      volumes:
        - {name: run, emptyDir: {}}
        - {name: shared-memory, emptyDir: {medium: Memory, sizeLimit: 256Mi}}  # 64 MiB are too little for parallel queries
        - {name: tmp, emptyDir: {}}
        - name: secrets
          secret: {secretName: {{ include "fakesweep.bundledSecret" . }}, defaultMode: 0440, items: [{key: password, path: password}]}
{{- end -}}

{{/* The mounted folder hides the image's own file, which logs to the console. */}}
{{- define "fakesweep.rabbitmq" -}}
{{ include "fakesweep.bundledHead" (dict "root" . "component" "rabbitmq" "own" .Values.bundled.rabbitmq) }}
      containers:
        - name: rabbitmq
          image: {{ .Values.bundled.rabbitmq.image }}
          ports: [{name: amqp, containerPort: 5672}, {name: management, containerPort: 15672}]
          env:
            # The name of the node is part of its data: it must not change with the pod.
            - {name: RABBITMQ_NODENAME, value: rabbit@localhost}
          {{- include "fakesweep.containerSecurity" . | nindent 10 }}
          resources: {requests: {cpu: 250m, memory: 512Mi}, limits: {memory: 1Gi}}
          startupProbe: {tcpSocket: {port: amqp}, periodSeconds: 5, failureThreshold: 60}
          readinessProbe: {tcpSocket: {port: amqp}, periodSeconds: 10}
          livenessProbe: {tcpSocket: {port: amqp}, periodSeconds: 30, failureThreshold: 6}
          volumeMounts:
            - {name: data, mountPath: /var/lib/rabbitmq}
            - {name: log, mountPath: /var/log/rabbitmq}
            - {name: tmp, mountPath: /tmp}
            - {name: configuration, mountPath: /etc/rabbitmq/conf.d, readOnly: true}
      volumes:
        - {name: log, emptyDir: {}}
        - {name: tmp, emptyDir: {}}
        - name: configuration
          secret: {secretName: {{ include "fakesweep.bundledSecret" . }}, defaultMode: 0440, items: [{key: rabbitmq.conf, path: 20-fakesweep.conf}]}
{{- end -}}
