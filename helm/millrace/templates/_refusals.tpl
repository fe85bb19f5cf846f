{{/* Variables that a value says, or that the chart has to choose, each with what to set. */}}
{{- define "millrace.owned" -}}
MILLRACE_API_KEY: set auth.apiKeySecret
MILLRACE_CALLBACKS_METRICS_HOST: set settings.bindAddress
MILLRACE_CALLBACKS_METRICS_PORT: probes and monitors ask at the chart's port
MILLRACE_DEVICE: set poolDefaults.device, or the pool's
MILLRACE_DRAIN_S: set settings.drainSeconds
MILLRACE_ENGINE_START_TIMEOUT_S: set poolDefaults.startTimeoutSeconds, or the pool's
MILLRACE_FLOWER_HOST: set settings.bindAddress
MILLRACE_FLOWER_PASSWORD: set flower.basicAuthSecret
MILLRACE_FLOWER_PORT: probes and the Service ask at the chart's port
MILLRACE_FLOWER_URL_PREFIX: set flower.urlPrefix, since probes ask there
MILLRACE_HOST: set settings.bindAddress
MILLRACE_JOBS: set jobs.enabled
MILLRACE_KEYS_FILE: set auth.keysFileSecret
MILLRACE_LEAVE_AFTER_S: set gateway.leaveAfterSeconds
MILLRACE_MODEL: list the models in pools
MILLRACE_MODELS_FILE: list the models in pools
MILLRACE_OTLP_ENDPOINT: set tracing.endpoint
MILLRACE_PORT: probes and the Service ask at the chart's port
MILLRACE_PUBLIC_URL: set settings.publicUrl
MILLRACE_REDIS_URL: set redis.bundled or redis.external
MILLRACE_REQUEST_TIMEOUT_S: set settings.requestTimeoutSeconds
MILLRACE_RUNNER_METRICS_HOST: set settings.bindAddress
MILLRACE_RUNNER_METRICS_PORT: probes and monitors ask at the chart's port
MILLRACE_SINKS_FILE: set sinks.secret
MILLRACE_STORE: set store.url or store.persistence
MILLRACE_TASKS_IN_FLIGHT_PER_WORKER: set settings.tasksInFlightPerWorker
MILLRACE_WORKER_METRICS_HOST: set settings.bindAddress
MILLRACE_WORKER_METRICS_PORT: probes and monitors ask at the chart's port
MILLRACE_WORKER_NAME: it is the pool's name
{{- end }}

{{/* Values that do not go together, one a line. What a single value may be is values.schema.json's. */}}
{{- define "millrace.refusals" -}}
{{- $owned := include "millrace.owned" . | fromYaml }}
{{- $maps := dict "settings.env" .Values.settings.env "gateway.env" .Values.gateway.env "jobs.env" .Values.jobs.env "callbacks.env" .Values.callbacks.env "poolDefaults.env" .Values.poolDefaults.env }}
{{- range .Values.pools }}{{ $_ := set $maps (printf "pool %s: env" .name) (default dict .env) }}{{ end }}
{{- range $where, $map := $maps }}
{{- range $name, $_ := $map }}
{{- with get $owned $name }}
{{ $where }}: {{ $name }} is not set here; {{ . }}
{{- end }}
{{- end }}
{{- end }}
{{- $pools := dict }}
{{- $models := dict }}
{{- range .Values.pools }}
{{- $pool := include "millrace.pool" (dict "root" $ "pool" .) | fromJson }}
{{- if hasKey $pools .name }}
two pools are called {{ .name }}: their Deployments would have one name
{{- end }}
{{- $_ := set $pools .name true }}
{{- range .models }}
{{- if hasKey $models .name }}
model {{ .name }} is in the pools {{ get $models .name }} and {{ $pool.name }}: a model's queues belong to one
{{- end }}
{{- $_ := set $models .name $pool.name }}
{{- end }}
{{- with $pool.autoscaling }}
{{- if .enabled }}
{{- if not (or .redis.enabled .prometheus.enabled) }}
pool {{ $pool.name }}: autoscaling needs redis.enabled or prometheus.enabled
{{- end }}
{{- if and .prometheus.enabled (not .prometheus.serverAddress) }}
pool {{ $pool.name }}: autoscaling.prometheus.serverAddress is needed: the URL at which KEDA asks Prometheus
{{- end }}
{{- if gt (int .minReplicas) (int .maxReplicas) }}
pool {{ $pool.name }}: autoscaling.minReplicas is {{ .minReplicas }}, which is more than maxReplicas, {{ .maxReplicas }}
{{- end }}
{{- if and .redis.enabled (gt (int .pollingInterval) 30) }}
pool {{ $pool.name }}: autoscaling.pollingInterval is {{ .pollingInterval }} s; 30 is the most, since Redis tells for 60 s only that a model is asked for
{{- end }}
{{- if and .redis.enabled $.Values.redis.bundled.enabled $.Values.networkPolicies.enabled (not $.Values.networkPolicies.kedaFrom) }}
pool {{ $pool.name }}: KEDA has to reach the bundled Redis; say in networkPolicies.kedaFrom where it runs: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: keda}}}]
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.gateway.autoscaling }}
{{- if and .enabled (gt (int .minReplicas) (int .maxReplicas)) }}
gateway.autoscaling.minReplicas is {{ .minReplicas }}, which is more than maxReplicas, {{ .maxReplicas }}
{{- end }}
{{- end }}
{{- with .Values.redis }}
{{- $named := or .external.host .external.sentinel.hosts }}
{{- if and .bundled.enabled $named }}
redis.external names a server, and redis.bundled.enabled is true: set it to false
{{- else if not (or .bundled.enabled $named) }}
redis.external.host (or redis.external.sentinel.hosts) is needed where redis.bundled.enabled is false
{{- end }}
{{- if and .external.username (not .external.passwordSecret.name) }}
redis.external.username needs redis.external.passwordSecret.name: a user without a password is not sent
{{- end }}
{{- if and .external.sentinel.username (not .external.sentinel.passwordSecret.name) }}
redis.external.sentinel.username needs redis.external.sentinel.passwordSecret.name
{{- end }}
{{- end }}
{{- if and .Values.flower.enabled (not .Values.flower.basicAuthSecret.name) }}
flower.basicAuthSecret.name is needed: Flower shows and revokes tasks
{{- end }}
{{- if and .Values.modelCache.prestage.enabled (include "millrace.fetches" .) (not .Values.modelCache.persistence.enabled) }}
modelCache.prestage needs modelCache.persistence.enabled: a volume that workers find the files on
{{- end }}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) }}
ingress.hosts is needed where ingress.enabled is true: [{host: embeddings.example.com, paths: [/]}]
{{- end }}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) }}
httpRoute.parentRefs is needed where httpRoute.enabled is true: the Gateway that the route belongs to, [{name: public}]
{{- end }}
{{- end }}
