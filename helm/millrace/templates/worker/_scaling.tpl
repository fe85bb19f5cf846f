{{/* Whether any pool is scaled by KEDA. */}}
{{- define "millrace.scales" -}}
{{- range .Values.pools }}{{ if (include "millrace.pool" (dict "root" $ "pool" .) | fromJson).autoscaling.enabled }}yes{{ end }}{{ end }}
{{- end }}

{{/* Whether any pool has no worker until it is asked for. */}}
{{- define "millrace.sleeps" -}}
{{- range .Values.pools }}
{{- with (include "millrace.pool" (dict "root" $ "pool" .) | fromJson).autoscaling }}
{{- if and .enabled (eq (int .minReplicas) 0) }}yes{{ end }}
{{- end }}
{{- end }}
{{- end }}

{{/* Whether KEDA needs Secrets to ask Redis. */}}
{{- define "millrace.kedaAuth" -}}
{{- $external := .Values.redis.external }}
{{- include "millrace.redisSecretName" . }}
{{- if not .Values.redis.bundled.enabled }}
{{- if $external.sentinel.hosts }}{{ $external.sentinel.passwordSecret.name }}{{ end }}
{{- if $external.tls.enabled }}{{ $external.tls.caSecret.name }}{{ end }}
{{- end }}
{{- end }}

{{/* Where KEDA, in another namespace, finds Redis. */}}
{{- define "millrace.kedaRedis" -}}
{{- $external := .Values.redis.external }}
{{- if .Values.redis.bundled.enabled -}}
address: {{ include "millrace.fullname" . }}-redis.{{ .Release.Namespace }}.svc:6379
databaseIndex: "0"
{{- else -}}
{{- if $external.sentinel.hosts -}}
addresses: {{ join "," $external.sentinel.hosts | quote }}
sentinelMaster: {{ $external.sentinel.master | quote }}
{{- with $external.sentinel.username }}
sentinelUsername: {{ . | quote }}
{{- end }}
{{- else -}}
address: {{ printf "%s:%d" $external.host (int $external.port) | quote }}
{{- end }}
databaseIndex: {{ include "millrace.value" $external.database | quote }}
{{- with $external.username }}
username: {{ . | quote }}
{{- end }}
{{- if $external.tls.enabled }}
enableTLS: "true"
{{- end }}
{{- end }}
{{- end }}

{{/* Triggers on the length of each queue (a model's lanes, named as in shared/queues.py), and on whether a model is asked for at
all (shared/keys.py): that one keeps a pool awake whose queues are always empty when KEDA looks, and wants no more workers.
Takes (dict "root" $ "pool" pool). */}}
{{- define "millrace.queueTriggers" -}}
{{- $root := .root }}
{{- $scaling := .pool.autoscaling }}
{{- range .pool.models }}
{{- $model := .name }}
{{- $lists := list }}
{{- range $lane := list "interactive" "bulk" }}
{{- $lists = append $lists (dict "name" (printf "millrace.%s.%s" $model $lane) "length" (get $scaling.listLength $lane)) }}
{{- end }}
{{- $lists = append $lists (dict "name" (printf "millrace:awake:%s" $model) "length" 1000000) }}
{{- range $list := $lists }}
- type: {{ ternary "redis-sentinel" "redis" (and (not $root.Values.redis.bundled.enabled) (not (empty $root.Values.redis.external.sentinel.hosts))) }}
  metricType: AverageValue
  metadata:
    {{- include "millrace.kedaRedis" $root | nindent 4 }}
    listName: {{ $list.name | quote }}
    listLength: {{ include "millrace.value" $list.length | quote }}
    activationListLength: "0"
  {{- if include "millrace.kedaAuth" $root }}
  authenticationRef:
    name: {{ include "millrace.fullname" $root }}-redis
  {{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* Triggers on what Prometheus has measured: the wait, and how busy the workers are, in units of one that never rests (an engine that
computes two batches at a time takes two seconds of batches in one). Instead of the lists there are two more: the tasks that wait, and
whether a model is asked for at all. Takes the same. */}}
{{- define "millrace.prometheusTriggers" -}}
{{- $prometheus := .pool.autoscaling.prometheus }}
{{- $models := list }}
{{- range .pool.models }}{{ $models = append $models (regexQuoteMeta .name) }}{{ end }}
{{- $selector := tpl $prometheus.selector .root | default "job!=``" }}
{{- $labels := printf "%s,model=~`%s`" $selector (join "|" $models) }}
{{- $queued := printf "sum(max by (model, lane) (millrace_queue_length{%s}))" $labels }}
{{- $waiting := printf "sum(max by (model) (millrace_backlog_seconds{%s,lane=\"interactive\"}) * on (model) max by (model) (millrace_workers{%s}))" $labels $labels }}
{{- $awake := printf "sum(max by (model) (millrace_model_awake{%s}))" $labels }}
{{- $busy := printf "sum(rate(millrace_batch_duration_seconds_sum{%s}[%s]) / on (namespace, pod, instance) group_left () millrace_parallel_batches{%s})" $labels $prometheus.window $selector }}
{{- $triggers := list (dict "query" $waiting "threshold" (printf "%g" (float64 $prometheus.backlogSeconds)) "activation" "0") }}
{{- $triggers = append $triggers (dict "query" $busy "threshold" (printf "%g" (float64 $prometheus.busyShare)) "activation" "0.01") }}
{{- if not .pool.autoscaling.redis.enabled }}
{{- $triggers = append $triggers (dict "query" $queued "threshold" (include "millrace.value" .pool.autoscaling.listLength.interactive) "activation" "0") }}
{{- $triggers = append $triggers (dict "query" $awake "threshold" "1000000" "activation" "0") }}
{{- end }}
{{- range $triggers }}
- type: prometheus
  metricType: AverageValue
  metadata:
    serverAddress: {{ $prometheus.serverAddress | quote }}
    query: {{ .query | quote }}
    threshold: {{ .threshold | quote }}
    activationThreshold: {{ .activation | quote }}
    ignoreNullValues: "true"
{{- end }}
{{- end }}
