{{/* The name that every object starts with. Names append at most 24 characters to it. */}}
{{- define "capstan.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride | trunc 38 | trimSuffix "-" }}
{{- else if contains .Chart.Name .Release.Name -}}
{{ .Release.Name | trunc 38 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 38 | trimSuffix "-" }}
{{- end -}}
{{- end }}

{{/* Labels that never change: what Services, budgets and policies select by. Takes (list $ "component"). */}}
{{- define "capstan.selector" -}}
app.kubernetes.io/name: capstan
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* Labels of an object. Takes (list $ "component"). */}}
{{- define "capstan.labels" -}}
{{- $root := index . 0 -}}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
app.kubernetes.io/part-of: capstan
{{ include "capstan.selector" . }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Name of a ServiceAccount. Takes (list $ "component" values). */}}
{{- define "capstan.serviceAccount" -}}
{{- $values := index . 2 -}}
{{- if $values.create -}}
{{ $values.name | default (printf "%s-%s" (include "capstan.fullname" (index . 0)) (index . 1)) }}
{{- else -}}
{{ required (printf "%s.serviceAccount.name is needed with %s.serviceAccount.create=false" (index . 1) (index . 1)) $values.name }}
{{- end -}}
{{- end }}

{{/* What needs a Redis, or says how it is to be run; empty: nothing. */}}
{{- define "capstan.redisNeed" -}}
{{- with .Values -}}
{{- if .gateway.storedResponses.enabled -}}gateway.storedResponses.enabled
{{- else if or .gateway.batches.existingClaim .gateway.batches.url -}}gateway.batches
{{- else if .queue.enabled -}}queue.enabled
{{- else if .scorer.enabled -}}scorer.enabled
{{- else if .redis.auth.existingSecret -}}redis.auth.existingSecret
{{- else if .redis.persistence.enabled -}}redis.persistence.enabled
{{- end -}}
{{- end -}}
{{- end }}

{{/* "true" where a Redis of this release is there that nothing in the values needs: gateways may count limits together in it. */}}
{{- define "capstan.redisStays" -}}
{{- with lookup "apps/v1" "StatefulSet" .Release.Namespace (printf "%s-redis" (include "capstan.fullname" .)) -}}
{{- if eq (dig "metadata" "labels" "app.kubernetes.io/instance" "" .) $.Release.Name -}}true{{- end -}}
{{- end -}}
{{- end }}

{{/* "true" where the release runs a Redis. */}}
{{- define "capstan.redis" -}}
{{- $wanted := .Values.redis.enabled -}}
{{- if kindIs "bool" $wanted -}}
{{- if $wanted -}}true{{- end -}}
{{- else if or .Values.redis.externalUrl .Values.redis.externalUrlSecret.name -}}
{{- else if or (include "capstan.redisNeed" .) (include "capstan.redisStays" .) -}}true
{{- end -}}
{{- end }}

{{/* The Secret with the password of Redis: one that is given, for either Redis, or the operator's own; empty: none is known. */}}
{{- define "capstan.redisSecret" -}}
{{- if .Values.redis.auth.existingSecret -}}
{{ .Values.redis.auth.existingSecret }}
{{- else if include "capstan.redis" . -}}
{{ include "capstan.fullname" . }}-redis
{{- end -}}
{{- end }}

{{/* Its key. */}}
{{- define "capstan.redisSecretKey" -}}
{{ .Values.redis.auth.existingSecret | empty | ternary "password" .Values.redis.auth.key }}
{{- end }}

{{/* Where the gateway finds Redis; empty: it keeps nothing, or the URL is in a Secret. */}}
{{- define "capstan.redisUrl" -}}
{{- if include "capstan.redis" . -}}
redis://{{ include "capstan.fullname" . }}-redis.{{ .Release.Namespace }}.svc:6379/0
{{- else -}}
{{ .Values.redis.externalUrl }}
{{- end -}}
{{- end }}

{{/* Where the models' workers find it: the same Redis, by a user of their own where the values name one. */}}
{{- define "capstan.queueUrl" -}}
{{- if .Values.queue.workerUrl -}}
{{ .Values.queue.workerUrl }}
{{- else if and (include "capstan.redis" .) .Values.queue.workerSecret -}}
redis://capstan-worker@{{ include "capstan.fullname" . }}-redis.{{ .Release.Namespace }}.svc:6379/0
{{- else -}}
{{ include "capstan.redisUrl" . }}
{{- end -}}
{{- end }}

{{/* Where the scorer finds it: by a user of its own where the values name one. Empty: the URL is in a Secret. */}}
{{- define "capstan.scorerRedisUrl" -}}
{{- if and (include "capstan.redis" .) .Values.scorer.redisSecret -}}
redis://capstan-scorer@{{ include "capstan.fullname" . }}-redis.{{ .Release.Namespace }}.svc:6379/0
{{- else -}}
{{ include "capstan.redisUrl" . }}
{{- end -}}
{{- end }}

{{- /* The Secret with the API key by which the scorer asks judges. */ -}}
{{- define "capstan.scorerKeySecret" -}}
{{ .Values.scorer.keySecret | default (printf "%s-scorer-key" (include "capstan.fullname" .)) }}
{{- end }}

{{- define "capstan.gatewayConfig" -}}
{{ include "capstan.fullname" . }}-gateway-config
{{- end }}

{{- define "capstan.gatewayCredentials" -}}
{{ include "capstan.fullname" . }}-gateway-credentials
{{- end }}

{{- /* The Secret with the key by which the names of users are hashed: the operator's own, or one that is given. */ -}}
{{- define "capstan.privacySecret" -}}
{{ .Values.gateway.privacyKeySecret | default (printf "%s-gateway-privacy" (include "capstan.fullname" .)) }}
{{- end }}

{{- /* The Secret with the credential of the gateway's admin pages. */ -}}
{{- define "capstan.adminSecret" -}}
{{ .Values.gateway.adminKeySecret | default (printf "%s-gateway-admin" (include "capstan.fullname" .)) }}
{{- end }}

{{- /* The Secrets that the credentials of external models are in: the second and later ones only where one is too small. */ -}}
{{- define "capstan.credentialSecrets" -}}
- {{ include "capstan.gatewayCredentials" . }}
{{- range $number := untilStep 1 17 1 }}
- {{ include "capstan.gatewayCredentials" $ }}-{{ $number }}
{{- end }}
{{- end }}

{{/* JSON list of the namespaces whose models are served: what was asked for and the operator's own; empty: all. */}}
{{- define "capstan.modelNamespaces" -}}
{{- if .Values.operator.watchNamespaces -}}
{{ append .Values.operator.watchNamespaces .Release.Namespace | uniq | toJson }}
{{- else -}}
[]
{{- end -}}
{{- end }}

{{/* Refuse the values of an older chart, which lack what this one's templates read. */}}
{{- define "capstan.checkAge" -}}
{{- if kindIs "invalid" .Values.aggregatedRoles -}}
{{- fail "these are the values of an older chart, without the defaults of this one: use --reset-then-reuse-values in place of --reuse-values" -}}
{{- end -}}
{{- end }}

{{/* Refuse values that contradict each other. */}}
{{- define "capstan.check" -}}
{{- $redis := include "capstan.redis" . -}}
{{- range $key, $_ := .Values.commonLabels -}}
{{- if has $key (list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component") -}}
{{- fail (printf "commonLabels must not contain '%s': Services, budgets and policies find the pods by it" $key) -}}
{{- end -}}
{{- end -}}
{{- with .Values -}}
{{- if and (gt (int .operator.replicas) 1) (not .operator.leaderElection) -}}
{{- fail "operator.replicas greater than 1 needs operator.leaderElection: else all of them would write at once" -}}
{{- end -}}
{{- if and .operator.strategy (ne .operator.strategy.type "Recreate") (not .operator.leaderElection) -}}
{{- fail "operator.strategy other than Recreate needs operator.leaderElection: else an old and a new operator would write at once" -}}
{{- end -}}
{{- if eq (include "capstan.serviceAccount" (list $ "operator" .operator.serviceAccount)) (include "capstan.serviceAccount" (list $ "gateway" .gateway.serviceAccount)) -}}
{{- fail "operator.serviceAccount.name and gateway.serviceAccount.name must not be the same: the gateway, which the world asks, would have the operator's rights" -}}
{{- end -}}
{{- if eq .operator.className "default" -}}
{{- fail "operator.className must not be 'default': leave it empty for the install that serves models without a class" -}}
{{- end -}}
{{- if and .caBundle.configMap .caBundle.secret -}}
{{- fail "caBundle.configMap and caBundle.secret exclude each other: the authorities are in one of them" -}}
{{- end -}}
{{- if and $redis .redis.externalUrl -}}
{{- fail "redis.enabled and redis.externalUrl exclude each other: leave redis.enabled alone, or set it to false, to use the external Redis" -}}
{{- end -}}
{{- if and .redis.externalUrlSecret.name (or $redis .redis.externalUrl .redis.auth.existingSecret) -}}
{{- fail "redis.externalUrlSecret has the whole URL: set neither redis.enabled=true, redis.externalUrl nor redis.auth.existingSecret" -}}
{{- end -}}
{{- if gt (int64 .gateway.storedResponses.maxBytes) (int64 .gateway.storedResponses.maxBytesPerTenant) -}}
{{- fail "gateway.storedResponses.maxBytesPerTenant must be greater than or equal to gateway.storedResponses.maxBytes" -}}
{{- end -}}
{{- if and .gateway.storedResponses.enabled (not $redis) (not .redis.externalUrl) (not .redis.externalUrlSecret.name) -}}
{{- fail "gateway.storedResponses.enabled needs a Redis: leave redis.enabled alone, or set redis.externalUrl or redis.externalUrlSecret" -}}
{{- end -}}
{{- if and .gateway.batches.existingClaim .gateway.batches.url -}}
{{- fail "gateway.batches.existingClaim and gateway.batches.url exclude each other: both are a place for files" -}}
{{- end -}}
{{- if and (or .gateway.batches.existingClaim .gateway.batches.url) (not $redis) (not .redis.externalUrl) (not .redis.externalUrlSecret.name) -}}
{{- fail "gateway.batches needs a Redis: leave redis.enabled alone, or set redis.externalUrl or redis.externalUrlSecret" -}}
{{- end -}}
{{- if and .queue.enabled (not $redis) (not .redis.externalUrl) (not .redis.externalUrlSecret.name) -}}
{{- fail "queue.enabled needs a Redis: leave redis.enabled alone, or set redis.externalUrl or redis.externalUrlSecret" -}}
{{- end -}}
{{- if and .queue.enabled .redis.externalUrlSecret.name (not .queue.workerUrl) -}}
{{- fail "queue.enabled with redis.externalUrlSecret needs queue.workerUrl: the URL without its password, for the models' pods" -}}
{{- end -}}
{{- if and .queue.enabled $redis .queue.workerUrl -}}
{{- fail "queue.workerUrl is for an external Redis: leave it empty with the Redis of this release" -}}
{{- end -}}
{{- if and .queue.enabled $redis (not .queue.workerSecret) -}}
{{- fail "queue.enabled with the Redis of this release needs queue.workerSecret: the Secret with the workers' password, in the namespaces of models as well" -}}
{{- end -}}
{{- if and .redis.auth.existingSecret (not $redis) (not .redis.externalUrl) -}}
{{- fail "redis.auth.existingSecret is set, but there is no Redis: set redis.enabled=true or redis.externalUrl" -}}
{{- end -}}
{{- if and .scorer.enabled (not $redis) (not .redis.externalUrl) (not .redis.externalUrlSecret.name) -}}
{{- fail "scorer.enabled needs a Redis: leave redis.enabled alone, or set redis.externalUrl or redis.externalUrlSecret" -}}
{{- end -}}
{{- if and .gateway.oidc.issuers (not .gateway.oidc.audiences) -}}
{{- fail "gateway.oidc.issuers needs gateway.oidc.audiences: a token that is for somebody else must not be taken" -}}
{{- end -}}
{{- if and .gateway.oidc.jwksUrl (ne (len .gateway.oidc.issuers) 1) -}}
{{- fail "gateway.oidc.jwksUrl is for exactly one of gateway.oidc.issuers" -}}
{{- end -}}
{{- if and .gateway.autoscaling.enabled (gt (int .gateway.autoscaling.minReplicas) (int .gateway.autoscaling.maxReplicas)) -}}
{{- fail "gateway.autoscaling.maxReplicas must be greater than or equal to gateway.autoscaling.minReplicas" -}}
{{- end -}}
{{- if and .gateway.service.nodePort (eq .gateway.service.type "ClusterIP") -}}
{{- fail "gateway.service.nodePort needs gateway.service.type NodePort or LoadBalancer" -}}
{{- end -}}
{{- if and .gateway.service.loadBalancerSourceRanges (ne .gateway.service.type "LoadBalancer") -}}
{{- fail "gateway.service.loadBalancerSourceRanges needs gateway.service.type LoadBalancer" -}}
{{- end -}}
{{- end -}}
{{- if and .Values.monitoring.serviceMonitor.enabled (not (.Capabilities.APIVersions.Has "monitoring.coreos.com/v1")) -}}
{{- fail "monitoring.serviceMonitor.enabled is true, but this cluster does not know monitoring.coreos.com/v1: install the Prometheus Operator first (helm template: --api-versions monitoring.coreos.com/v1)" -}}
{{- end -}}
{{- if and .Values.monitoring.prometheusRule.enabled (not (.Capabilities.APIVersions.Has "monitoring.coreos.com/v1")) -}}
{{- fail "monitoring.prometheusRule.enabled is true, but this cluster does not know monitoring.coreos.com/v1: install the Prometheus Operator first (helm template: --api-versions monitoring.coreos.com/v1)" -}}
{{- end -}}
{{- end }}

{{- /* "true" where the operator serves external.metrics.k8s.io. */ -}}
{{- define "capstan.metricsApi" -}}
{{- $how := .Values.operator.metricsApi -}}
{{- if or (eq $how "Always") (and (eq $how "Auto") (not .Values.operator.watchNamespaces)) -}}true{{- end -}}
{{- end }}

{{- /* "true" where ClusterRoles add Capstan's kinds to those of Kubernetes. */ -}}
{{- define "capstan.aggregatedRoles" -}}
{{- $wanted := .Values.aggregatedRoles.enabled -}}
{{- if kindIs "bool" $wanted -}}
{{- if $wanted -}}true{{- end -}}
{{- else if not .Values.operator.watchNamespaces -}}true{{- end -}}
{{- end }}

{{- /* "true" where a ValidatingAdmissionPolicy binds the operator's account. */ -}}
{{- define "capstan.admissionPolicy" -}}
{{- $wanted := .Values.operator.admissionPolicy.enabled -}}
{{- $known := semverCompare ">=1.30-0" .Capabilities.KubeVersion.Version -}}
{{- if kindIs "bool" $wanted -}}
{{- if and $wanted (not $known) -}}
{{- fail (printf "operator.admissionPolicy.enabled needs Kubernetes 1.30 or newer; this is %s" .Capabilities.KubeVersion.Version) -}}
{{- end -}}
{{- if $wanted -}}true{{- end -}}
{{- else if and $known (not .Values.operator.watchNamespaces) -}}true{{- end -}}
{{- end }}

{{- /* The Lease that the operator holds: releases of two classes may be in one namespace, and each of them works. */ -}}
{{- define "capstan.lease" -}}
capstan-operator{{ with .Values.operator.className }}-{{ . }}{{ end }}
{{- end }}

{{- /* The Secrets that the operator writes, in its own namespace. */ -}}
{{- define "capstan.operatorSecrets" -}}
{{- $name := printf "%s-operator" (include "capstan.fullname" .) -}}
{{ include "capstan.credentialSecrets" . }}
- {{ include "capstan.adminSecret" . }}
{{- if include "capstan.metricsApi" . }}
- {{ $name }}-metrics-api
{{- end }}
{{- if .Values.operator.keda.enabled }}
- {{ $name }}-scaler
{{- end }}
{{- if not .Values.gateway.privacyKeySecret }}
- {{ include "capstan.privacySecret" . }}
{{- end }}
{{- if and .Values.scorer.enabled (not .Values.scorer.keySecret) }}
- {{ include "capstan.scorerKeySecret" . }}
{{- end }}
{{- if and (include "capstan.redis" .) (not .Values.redis.auth.existingSecret) }}
- {{ include "capstan.redisSecret" . }}
{{- end }}
{{- end }}
