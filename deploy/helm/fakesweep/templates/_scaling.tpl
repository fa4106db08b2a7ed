{{/*
How many messages of scans KEDA counts for each worker.

The queue is bounded. While workers are slower than the producer, at least B = bound - min(125, bound / 4) messages
wait in it: a producer publishes up to 125 at once (producers/bulk.py). KEDA asks for ceil(messages / target) workers,
and the HPA changes nothing for a ratio of less than 1.1. So the maximum is reached when target <= B / (1.1 * maximum).
*/}}
{{- define "fakesweep.scanTarget" -}}
{{- $bound := int .Values.queue.maxDepth -}}
{{- $waiting := sub $bound (min 125 (div $bound 4)) -}}
{{- div (mul $waiting 10) (mul (int .Values.worker.autoscaling.maxReplicas) 11) -}}
{{- end -}}

{{/* The smallest bound at which each worker's share is as much as it has in hand. */}}
{{- define "fakesweep.leastDepth" -}}
{{- $waiting := div (add (mul (int .Values.worker.autoscaling.maxReplicas) (int .Values.worker.threads) 11) 9) 10 -}}
{{- add $waiting (min 125 (div (add $waiting 2) 3)) -}}
{{- end -}}
