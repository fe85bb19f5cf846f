{{/* The chart's name in labels. */}}
{{- define "millrace.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* What every object's name begins with: the release's name, so that two releases share a namespace. */}}
{{- define "millrace.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "millrace.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "millrace.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* Labels of a component's pods that never change: selectors are immutable. Takes (dict "root" $ "component" name). */}}
{{- define "millrace.selectorLabels" -}}
app.kubernetes.io/name: {{ include "millrace.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* All labels of a component's objects. Takes the same. */}}
{{- define "millrace.labels" -}}
{{ include "millrace.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "millrace.serviceAccountName" -}}
{{- default (ternary (include "millrace.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name }}
{{- end }}

{{/* An image's reference. Takes (dict "root" $ "image" values). */}}
{{- define "millrace.image" -}}
{{- $name := .image.repository }}
{{- with .root.Values.images.registry }}{{ $name = printf "%s/%s" (trimSuffix "/" .) $name }}{{ end }}
{{- if .image.digest }}
{{- printf "%s@%s" $name .image.digest }}
{{- else }}
{{- printf "%s:%s" $name (default .root.Chart.AppVersion .image.tag) }}
{{- end }}
{{- end }}

{{/* The image of a pool's workers: torch for its device. Takes (dict "root" $ "pool" pool). */}}
{{- define "millrace.workerImage" -}}
{{- $build := ternary "cpu" "cuda" (eq .pool.device "cpu") }}
{{- $image := deepCopy .root.Values.images.worker }}
{{- if not $image.tag }}{{ $_ := set $image "tag" (printf "%s-%s" .root.Chart.AppVersion $build) }}{{ end }}
{{- if .pool.image.tag }}{{ $_ := set $image "tag" .pool.image.tag }}{{ end }}
{{- if .pool.image.digest }}{{ $_ := set $image "digest" .pool.image.digest }}{{ end }}
{{- include "millrace.image" (dict "root" .root "image" $image) }}
{{- end }}

{{/* A setting's value as a string; whole numbers without an exponent. */}}
{{- define "millrace.value" -}}
{{- if not (kindIs "float64" .) }}{{ . }}
{{- else if eq (floor .) . }}{{ int64 . }}
{{- else }}{{ . }}
{{- end }}
{{- end }}

{{/* A container's environment: the chart's own entries, and what the operator says in the place of those of the same name.
Takes (dict "own" entries "said" (list of maps, the most special one last)). */}}
{{- define "millrace.environment" -}}
{{- $said := dict }}
{{- range .said }}{{ range $name, $value := . }}{{ $_ := set $said $name $value }}{{ end }}{{ end }}
{{- range fromYamlArray .own }}
{{- if not (hasKey $said .name) }}
{{ toYaml (list .) }}
{{- end }}
{{- end }}
{{- range $name, $value := $said }}
- name: {{ $name }}
  value: {{ include "millrace.value" $value | quote }}
{{- end }}
{{- end }}

{{/* What every pod of ours has in its security context, and every container. */}}
{{- define "millrace.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}
{{- define "millrace.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Where a pod may run. Takes (dict "root" $ "values" values "component" name, "pool" name or nothing). */}}
{{- define "millrace.placement" -}}
# A Service called millrace would be MILLRACE_PORT in every pod's environment, which is a setting.
enableServiceLinks: false
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if .values.topologySpread }}
topologySpreadConstraints:
  {{- range $key := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - topologyKey: {{ $key }}
    maxSkew: 1
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "millrace.selectorLabels" (dict "root" $.root "component" $.component) | nindent 8 }}
        {{- with $.pool }}
        pool: {{ . }}
        {{- end }}
  {{- end }}
{{- end }}
{{- end }}

{{/* Whether a Redis of the chart's own is run. */}}
{{- define "millrace.redisSecretName" -}}
{{- if .Values.redis.bundled.enabled }}
{{- default (printf "%s-redis" (include "millrace.fullname" .)) .Values.redis.bundled.passwordSecret.name }}
{{- else }}
{{- .Values.redis.external.passwordSecret.name }}
{{- end }}
{{- end }}
{{- define "millrace.redisSecretKey" -}}
{{- if .Values.redis.bundled.enabled }}{{ .Values.redis.bundled.passwordSecret.key }}{{ else }}{{ .Values.redis.external.passwordSecret.key }}{{ end }}
{{- end }}

{{/* Redis' address in the environment; its passwords come from Secrets and must have only letters that a URL may have. */}}
{{- define "millrace.redisEnv" -}}
{{- $external := .Values.redis.external }}
{{- $credentials := "" }}
{{- if include "millrace.redisSecretName" . }}
- name: REDIS_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ include "millrace.redisSecretName" . }}
      key: {{ include "millrace.redisSecretKey" . }}
{{- $credentials = printf "%s:$(REDIS_PASSWORD)@" (ternary "" $external.username .Values.redis.bundled.enabled) }}
{{- end }}
{{- $url := "" }}
{{- if .Values.redis.bundled.enabled }}
{{- $url = printf "redis://%s%s-redis:6379/0" $credentials (include "millrace.fullname" .) }}
{{- else if $external.sentinel.hosts }}
{{- $options := printf "master=%s" $external.sentinel.master }}
{{- with $external.sentinel.passwordSecret.name }}
- name: SENTINEL_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ . }}
      key: {{ $external.sentinel.passwordSecret.key }}
{{- $options = printf "%s&sentinel_password=$(SENTINEL_PASSWORD)" $options }}
{{- end }}
{{- with $external.sentinel.username }}{{ $options = printf "%s&sentinel_username=%s" $options . }}{{ end }}
{{- if $external.tls.enabled }}
{{- $options = printf "%s&ssl=true" $options }}
{{- with $external.tls.caSecret.name }}{{ $options = printf "%s&ssl_ca_certs=/etc/millrace/redis-ca/%s" $options $external.tls.caSecret.key }}{{ end }}
{{- end }}
{{- $url = printf "sentinel://%s%s/%d?%s" $credentials (join ";sentinel://" $external.sentinel.hosts) (int $external.database) $options }}
{{- else }}
{{- $url = printf "%s://%s%s:%d/%d" (ternary "rediss" "redis" $external.tls.enabled) $credentials $external.host (int $external.port) (int $external.database) }}
{{- if and $external.tls.enabled $external.tls.caSecret.name }}
{{- $url = printf "%s?ssl_ca_certs=/etc/millrace/redis-ca/%s" $url $external.tls.caSecret.key }}
{{- end }}
{{- end }}
- name: MILLRACE_REDIS_URL
  value: {{ $url | quote }}
{{- end }}

{{/* Folder and volume of the authority that vouches for Redis. */}}
{{- define "millrace.redisCaMount" -}}
{{- if and (not .Values.redis.bundled.enabled) .Values.redis.external.tls.enabled .Values.redis.external.tls.caSecret.name }}
- name: redis-ca
  mountPath: /etc/millrace/redis-ca
  readOnly: true
{{- end }}
{{- end }}
{{- define "millrace.redisCaVolume" -}}
{{- if and (not .Values.redis.bundled.enabled) .Values.redis.external.tls.enabled .Values.redis.external.tls.caSecret.name }}
- name: redis-ca
  secret:
    secretName: {{ .Values.redis.external.tls.caSecret.name }}
{{- end }}
{{- end }}

{{/* The environment of every process of the service. */}}
{{- define "millrace.commonEnv" -}}
{{ include "millrace.redisEnv" . }}
- name: MILLRACE_DRAIN_S
  value: {{ include "millrace.value" .Values.settings.drainSeconds | quote }}
- name: MILLRACE_LOG_FORMAT
  value: {{ .Values.settings.logFormat }}
- name: MILLRACE_LOG_LEVEL
  value: {{ .Values.settings.logLevel }}
- name: HOME
  value: /tmp
- name: PYTHONUNBUFFERED
  value: "1"
{{- end }}

{{/* Where traces are sent, in the environment of what makes them, and what else that needs. */}}
{{- define "millrace.tracingEnv" -}}
{{- with .Values.tracing.endpoint }}
- name: MILLRACE_OTLP_ENDPOINT
  value: {{ . | quote }}
{{- end }}
{{- end }}
{{- define "millrace.tracingEnvFrom" -}}
{{- with .Values.tracing.envSecret }}
- secretRef:
    name: {{ . }}
{{- end }}
{{- end }}

{{/* Whether there is a callback worker: what it sends comes from the job runner. */}}
{{- define "millrace.callsBack" -}}
{{- if and .Values.jobs.enabled .Values.callbacks.enabled }}yes{{ end }}
{{- end }}

{{/* What gateway, job runner and callback worker share beside that: store and sinks, where bulk jobs are taken. */}}
{{- define "millrace.storeUrl" -}}
{{- default "/var/lib/millrace/store" .Values.store.url }}
{{- end }}
{{- define "millrace.bulkEnv" -}}
{{- if .Values.jobs.enabled }}
- name: MILLRACE_STORE
  value: {{ include "millrace.storeUrl" . }}
{{- with .Values.settings.publicUrl }}
- name: MILLRACE_PUBLIC_URL
  value: {{ . | quote }}
{{- end }}
{{- if .Values.sinks.secret.name }}
- name: MILLRACE_SINKS_FILE
  value: /etc/millrace/sinks/{{ .Values.sinks.secret.key }}
{{- end }}
{{- else }}
- name: MILLRACE_JOBS
  value: "false"
{{- end }}
{{- end }}
{{- define "millrace.bulkMounts" -}}
- name: tmp
  mountPath: /tmp
{{- if .Values.jobs.enabled }}
{{- if not .Values.store.url }}
- name: store
  mountPath: /var/lib/millrace
{{- end }}
{{- if .Values.sinks.secret.name }}
- name: sinks
  mountPath: /etc/millrace/sinks
  readOnly: true
{{- end }}
{{- end }}
{{- include "millrace.redisCaMount" . }}
{{- end }}
{{- define "millrace.bulkVolumes" -}}
- name: tmp
  emptyDir: {}
{{- if .Values.jobs.enabled }}
{{- if not .Values.store.url }}
- name: store
  persistentVolumeClaim:
    claimName: {{ default (printf "%s-store" (include "millrace.fullname" .)) .Values.store.persistence.existingClaim }}
{{- end }}
{{- if .Values.sinks.secret.name }}
- name: sinks
  secret:
    secretName: {{ .Values.sinks.secret.name }}
{{- end }}
{{- end }}
{{- include "millrace.redisCaVolume" . }}
{{- end }}
{{- define "millrace.bulkEnvFrom" -}}
{{- if .Values.jobs.enabled }}
{{- range compact (list .Values.store.envSecret .Values.sinks.envSecret) }}
- secretRef:
    name: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{/* What gateway and job runner share beside that: models and keys. */}}
{{- define "millrace.askingEnv" -}}
{{ include "millrace.commonEnv" . }}
{{ include "millrace.bulkEnv" . }}
- name: MILLRACE_MODELS_FILE
  value: /etc/millrace/models/_all.yaml
- name: MILLRACE_TASKS_IN_FLIGHT_PER_WORKER
  value: {{ include "millrace.value" .Values.settings.tasksInFlightPerWorker | quote }}
{{- if .Values.auth.apiKeySecret.name }}
- name: MILLRACE_API_KEY
  valueFrom:
    secretKeyRef:
      name: {{ .Values.auth.apiKeySecret.name }}
      key: {{ .Values.auth.apiKeySecret.key }}
{{- end }}
{{- if .Values.auth.keysFileSecret.name }}
- name: MILLRACE_KEYS_FILE
  value: /etc/millrace/keys/{{ .Values.auth.keysFileSecret.key }}
{{- end }}
{{- end }}
{{- define "millrace.askingMounts" -}}
{{ include "millrace.bulkMounts" . }}
- name: models
  mountPath: /etc/millrace/models
  readOnly: true
{{- if .Values.auth.keysFileSecret.name }}
- name: keys
  mountPath: /etc/millrace/keys
  readOnly: true
{{- end }}
{{- end }}
{{- define "millrace.askingVolumes" -}}
{{ include "millrace.bulkVolumes" . }}
- name: models
  configMap:
    name: {{ include "millrace.fullname" . }}-models
{{- if .Values.auth.keysFileSecret.name }}
- name: keys
  secret:
    secretName: {{ .Values.auth.keysFileSecret.name }}
{{- end }}
{{- end }}

{{/* A pool with what it leaves to the defaults, as JSON; null in a map takes out what the defaults have there.
Takes (dict "root" $ "pool" values). */}}
{{- define "millrace.pool" -}}
{{- $pool := mergeOverwrite (deepCopy .root.Values.poolDefaults) (deepCopy .pool) }}
{{- range $map := list $pool.nodeSelector $pool.env $pool.podLabels $pool.podAnnotations }}
{{- range $name, $value := $map }}
{{- if kindIs "invalid" $value }}{{ $_ := unset $map $name }}{{ end }}
{{- end }}
{{- end }}
{{- $pool | toJson }}
{{- end }}

{{/* A models file of some pools. Takes (dict "root" $ "pools" pools). */}}
{{- define "millrace.modelsFile" -}}
{{- $root := .root }}
{{- $models := list }}
{{- range .pools }}
{{- $scaling := (include "millrace.pool" (dict "root" $root "pool" .) | fromJson).autoscaling }}
{{- range .models }}
{{- $model := deepCopy . }}
{{- if and $scaling.enabled (eq (int $scaling.minReplicas) 0) }}
{{- $_ := set $model "cold_start_s" $scaling.coldStartSeconds }}
{{- end }}
{{- $models = append $models $model }}
{{- end }}
{{- end }}
{{- dict "models" $models | toYaml }}
{{- end }}

{{/* Whether any model has to be fetched from the hub: neither a folder nor a package. */}}
{{- define "millrace.fetches" -}}
{{- if not .Values.hub.offline }}
{{- range .Values.pools }}{{ range .models }}
{{- if not (or (hasPrefix "/" .source) (hasPrefix "package:" .source)) }}yes{{ end }}
{{- end }}{{ end }}
{{- end }}
{{- end }}

{{/* The environment of what fetches from the hub. Takes (dict "root" $ "models" name of a models file). */}}
{{- define "millrace.fetchEnv" -}}
{{- $proxies := dict }}
{{- range $name, $value := .root.Values.settings.env }}
{{- if hasSuffix "_proxy" (lower $name) }}{{ $_ := set $proxies $name $value }}{{ end }}
{{- end }}
{{- $own := list
  (dict "name" "MILLRACE_MODELS_FILE" "value" (printf "/etc/millrace/models/%s.yaml" .models))
  (dict "name" "HOME" "value" "/tmp") }}
{{- $own = concat $own (include "millrace.hubEnv" .root | fromYamlArray) }}
{{- include "millrace.environment" (dict "own" (toYaml $own) "said" (list $proxies)) }}
{{- end }}

{{/* The hub in the environment of what uses its files. */}}
{{- define "millrace.hubEnv" -}}
- name: HF_HOME
  value: {{ .Values.modelCache.mountPath }}/hub
{{- with .Values.hub.endpoint }}
- name: HF_ENDPOINT
  value: {{ . | quote }}
{{- end }}
{{- if .Values.hub.tokenSecret.name }}
- name: HF_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ .Values.hub.tokenSecret.name }}
      key: {{ .Values.hub.tokenSecret.key }}
{{- end }}
{{- end }}

{{/* A pool's resources, with its GPUs. */}}
{{- define "millrace.poolResources" -}}
{{- $resources := deepCopy .resources }}
{{- if .gpus.count }}
{{- $limits := set (default dict $resources.limits) .gpus.resource .gpus.count }}
{{- $_ := set $resources "limits" $limits }}
{{- end }}
{{- toYaml $resources }}
{{- end }}

{{/* Volumes of a worker: its models' list, their files, and what it may write to. */}}
{{- define "millrace.workerMounts" -}}
- name: tmp
  mountPath: /tmp
- name: models
  mountPath: /etc/millrace/models
  readOnly: true
- name: model-cache
  mountPath: {{ .Values.modelCache.mountPath }}
{{- end }}
{{- define "millrace.workerVolumes" -}}
- name: tmp
  emptyDir: {}
- name: models
  configMap:
    name: {{ include "millrace.fullname" . }}-models
- name: model-cache
{{- if .Values.modelCache.persistence.enabled }}
  persistentVolumeClaim:
    claimName: {{ default (printf "%s-models" (include "millrace.fullname" .)) .Values.modelCache.persistence.existingClaim }}
{{- else }}
  emptyDir:
    {{- with .Values.modelCache.sizeLimit }}
    sizeLimit: {{ . }}
    {{- end }}
{{- end }}
{{- end }}

{{/* The container of a process that has a port for its metrics and for /livez. */}}
{{- define "millrace.livezProbes" -}}
# 120 s to start.
startupProbe:
  httpGet: {path: /livez, port: metrics}
  periodSeconds: 2
  timeoutSeconds: 5
  failureThreshold: 60
# 60 s without an answer end it.
livenessProbe:
  httpGet: {path: /livez, port: metrics}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- end }}
