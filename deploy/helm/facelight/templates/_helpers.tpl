{{- define "facelight.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* (root, component): labels by which a component's pods are selected. */}}
{{- define "facelight.selector" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- with .class }}
facelight/class: {{ . }}
{{- end }}
{{- end -}}

{{- define "facelight.labels" -}}
{{ include "facelight.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{/* (root, image): the digest where there is one; our own images have the chart's version. */}}
{{- define "facelight.image" -}}
{{- $tag := default .root.Chart.AppVersion .image.tag -}}
{{- .image.repository }}:{{ $tag }}{{ with .image.digest }}@{{ . }}{{ end -}}
{{- end -}}

{{- define "facelight.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ default (include "facelight.fullname" .) .Values.serviceAccount.name }}
{{- else -}}
{{ default "default" .Values.serviceAccount.name }}
{{- end -}}
{{- end -}}

{{/*
(root, user, group, account): what all pods have. Without service links: those of a Service `facelight` would set
FACELIGHT_PORT. An account only where its rights are needed, those to a bucket.
*/}}
{{- define "facelight.pod" -}}
{{- with .account }}
serviceAccountName: {{ . }}
{{- end }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: {{ .user }}
  runAsGroup: {{ .group }}
  fsGroup: {{ .group }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "facelight.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* Where pods run. */}}
{{- define "facelight.placement" -}}
{{- range $name := list "nodeSelector" "tolerations" "affinity" "topologySpreadConstraints" "priorityClassName" "runtimeClassName" }}
{{- with get $.values $name }}
{{ $name }}: {{ if kindIs "string" . }}{{ . }}{{ else }}{{ toYaml . | nindent 2 }}{{ end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* A map of variables: numbers without an exponent, true and false in words. */}}
{{- define "facelight.variables" -}}
{{- range $name, $value := . }}
- name: {{ $name }}
  value: {{ include "facelight.word" $value | quote }}
{{- end }}
{{- end -}}

{{- define "facelight.word" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) }}{{ int64 . }}{{ else }}{{ . }}{{ end -}}
{{- end -}}

{{- define "facelight.secretVariable" -}}
- name: {{ .name }}
  valueFrom: {secretKeyRef: {name: {{ .secret }}, key: {{ .key }}}}
{{- end -}}

{{/* (root, name): a variable that holds the URL of Redis. A variable in parentheses is replaced when the pod starts. */}}
{{- define "facelight.redisVariable" -}}
{{- $redis := .root.Values.redis -}}
{{- if $redis.urlSecret.name -}}
{{ include "facelight.secretVariable" (dict "name" .name "secret" $redis.urlSecret.name "key" $redis.urlSecret.key) }}
{{- else -}}
{{ include "facelight.secretVariable" (dict "name" "REDIS_PASSWORD" "secret" $redis.passwordSecret.name "key" $redis.passwordSecret.key) }}
- name: {{ .name }}
  value: redis://:$(REDIS_PASSWORD)@{{ include "facelight.fullname" .root }}-redis:6379/0
{{- end -}}
{{- end -}}

{{/* What gateways and workers need of Redis and of the bucket. */}}
{{- define "facelight.connections" -}}
{{ include "facelight.redisVariable" (dict "root" . "name" "FACELIGHT_REDIS_URL") }}
{{- if eq .Values.store.type "s3" }}
{{- with .Values.store.s3 }}
{{- if .secret.name }}
{{ include "facelight.secretVariable" (dict "name" "AWS_ACCESS_KEY_ID" "secret" .secret.name "key" .secret.accessKeyId) }}
{{ include "facelight.secretVariable" (dict "name" "AWS_SECRET_ACCESS_KEY" "secret" .secret.name "key" .secret.secretAccessKey) }}
{{- end }}
{{- range $name, $value := dict "AWS_ENDPOINT_URL" .endpointUrl "AWS_DEFAULT_REGION" .region "AWS_REQUEST_CHECKSUM_CALCULATION" .requestChecksumCalculation }}
{{- if $value }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Settings of both, with where pictures are kept. */}}
{{- define "facelight.commonSettings" -}}
{{- $settings := deepCopy .Values.settings -}}
{{- if eq .Values.store.type "s3" }}{{ $_ := set $settings "FACELIGHT_STORE" (required "store.s3.location is needed: s3://bucket/prefix" .Values.store.s3.location) }}{{ end -}}
{{- $_ := set $settings "FACELIGHT_METRICS_PORT" .Values.monitoring.port -}}
{{- toYaml $settings -}}
{{- end -}}

{{/* Which queues there are: variants by model. */}}
{{- define "facelight.variants" -}}
pulid-lightning: [default, artistic, realistic]
ic-light: [foreground, background]
{{- end -}}

{{/* (root, text): rules or a dashboard of docker compose, with the jobs that the operator names after our monitors. */}}
{{- define "facelight.withJobs" -}}
{{- $name := include "facelight.fullname" .root -}}
{{- $gateway := printf "job=%q" (printf "%s/%s-gateway" .root.Release.Namespace $name) -}}
{{- $worker := printf "job=%q" (printf "%s/%s-worker" .root.Release.Namespace $name) -}}
{{- $redis := printf "job=%q, namespace=%q" (printf "%s-exporter" $name) .root.Release.Namespace -}}
{{- $quote := default "\"" .quote -}}
{{- range $of, $new := dict "gateway" $gateway "worker" $worker "redis" $redis }}
{{- $_ := set $ "text" (replace (printf "job=%sfacelight-%s%s" $quote $of $quote) (replace "\"" $quote $new) $.text) -}}
{{- end }}
{{- .text -}}
{{- end -}}

{{/* A volume for pictures; with a bucket, one that ends with the pod. */}}
{{- define "facelight.dataVolume" -}}
- name: data
{{- if eq .Values.store.type "s3" }}
  emptyDir: {sizeLimit: 1Gi}
{{- else }}
  persistentVolumeClaim: {claimName: {{ default (printf "%s-data" (include "facelight.fullname" .)) .Values.store.volume.existingClaim }}}
{{- end }}
{{- end -}}

{{- define "facelight.weightsClaim" -}}
{{- default (printf "%s-weights" (include "facelight.fullname" .)) .Values.weights.existingClaim -}}
{{- end -}}

{{- define "facelight.weightsDir" -}}
{{- printf "%s/%s" .Values.weights.mountPath .Values.weights.folder | trimSuffix "/" -}}
{{- end -}}

{{/* (root, name, volume, component): a claim that outlives the release. */}}
{{- define "facelight.claim" -}}
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: {{ .name }}
  labels: {{ include "facelight.labels" . | nindent 4 }}
  annotations: {helm.sh/resource-policy: keep}
spec:
  accessModes: {{ toYaml .volume.accessModes | nindent 4 }}
  {{- with .volume.storageClassName }}
  storageClassName: {{ . }}
  {{- end }}
  resources: {requests: {storage: {{ .volume.size }}}}
{{- end -}}

{{/* What the job fetches. */}}
{{- define "facelight.fetchArguments" -}}
{{- with .Values.weights.fetch -}}
{{- $words := list -}}
{{- if .acceptLicence }}{{ $words = append $words "--accept-licence" }}{{ end -}}
{{- if .commercial }}{{ $words = append $words "--commercial" }}{{ end -}}
{{- if .only }}{{ $words = concat $words (list "--only" .only) }}{{ end -}}
{{- range .use }}{{ $words = concat $words (list "--use" .) }}{{ end -}}
{{- if .mirrorClaim }}{{ $words = concat $words (list "--mirror" "/mirror") }}{{ end -}}
{{- toJson $words -}}
{{- end -}}
{{- end -}}

{{/* Those settings that the job reads. */}}
{{- define "facelight.fetchSettings" -}}
{{- pick .Values.settings "FACELIGHT_DATA_DIR" "FACELIGHT_OFFLINE" | toYaml -}}
{{- end -}}

{{/* Differs for each set of weights and each version; the job's name, and the file that it leaves when it is done. */}}
{{- define "facelight.fetchId" -}}
{{- $worker := .Values.workerDefaults.image -}}
{{- $folder := printf "%s/%s" (include "facelight.weightsClaim" .) .Values.weights.folder -}}
{{- list (include "facelight.image" (dict "root" . "image" $worker)) (toJson .Values.weights.fetch) $folder (include "facelight.fetchSettings" .) .Values.imagePullSecrets .Values.weights.mountPath .Chart.Version | toJson | sha256sum | trunc 8 -}}
{{- end -}}

{{/* (root, name): a class of workers, complete. Prints it; `fromYaml` reads it back. */}}
{{- define "facelight.class" -}}
{{- toYaml (mergeOverwrite (deepCopy .root.Values.workerDefaults) (deepCopy (default dict (get .root.Values.workers .name)))) -}}
{{- end -}}
