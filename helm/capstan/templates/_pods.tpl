{{/* What all pods of the chart share: each of these takes (list $ "component" values-of-the-component). */}}

{{/* Labels of a pod: nothing in them that changes with the chart's version, or every upgrade would restart every pod. */}}
{{- define "capstan.podLabels" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $labels := deepCopy ($root.Values.commonLabels | default dict) -}}
{{- range $key, $value := (index . 2).podLabels -}}
{{- if has $key (list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" "app.kubernetes.io/part-of") -}}
{{- fail (printf "%s.podLabels must not contain '%s': Services, budgets and policies find the pods by it" $component $key) -}}
{{- end -}}
{{- $_ := set $labels $key $value -}}
{{- end -}}
app.kubernetes.io/part-of: capstan
{{ include "capstan.selector" . }}
{{- with $labels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Labels and annotations of a pod. */}}
{{- define "capstan.podMetadata" -}}
labels:
  {{- include "capstan.podLabels" . | nindent 2 }}
{{- with (index . 2).podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* What a pod says beside its containers and volumes. The fourth of the list: whether its replicas are spread by default. */}}
{{- define "capstan.pod" -}}
{{- $root := index . 0 -}}
{{- with index . 2 -}}
enableServiceLinks: false
{{- if not (kindIs "invalid" .terminationGracePeriodSeconds) }}
terminationGracePeriodSeconds: {{ int64 .terminationGracePeriodSeconds }}
{{- end }}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with include "capstan.withoutNulls" .podSecurityContext }}
securityContext:
  {{- . | nindent 2 }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .dnsPolicy }}
dnsPolicy: {{ . }}
{{- end }}
{{- with .dnsConfig }}
dnsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .hostAliases }}
hostAliases:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .initContainers }}
initContainers:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- with include "capstan.spread" . }}
topologySpreadConstraints:
  {{- . | nindent 2 }}
{{- end }}
{{- end }}

{{/* How a component's pods are spread: as its values say; where they say null, over nodes and zones if the fourth of the list is true. */}}
{{- define "capstan.spread" -}}
{{- $selector := dict "matchLabels" (include "capstan.selector" . | fromYaml) -}}
{{- $given := (index . 2).topologySpreadConstraints -}}
{{- if and (kindIs "invalid" $given) (index . 3) -}}
{{- $given = list -}}
{{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" -}}
{{- $given = append $given (dict "topologyKey" . "maxSkew" 1 "whenUnsatisfiable" "ScheduleAnyway") -}}
{{- end -}}
{{- end -}}
{{- $constraints := list -}}
{{- range $given -}}
{{- $constraints = append $constraints (hasKey . "labelSelector" | ternary . (merge (dict "labelSelector" $selector) .)) -}}
{{- end -}}
{{- with $constraints -}}
{{ toYaml . }}
{{- end -}}
{{- end }}

{{/* What a component's own container says beside its image, command, variables, ports and mounts. Takes the component's values. */}}
{{- define "capstan.container" -}}
{{- with .extraEnvFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- range $probe := list "startupProbe" "livenessProbe" "readinessProbe" }}
{{- with include "capstan.withoutNulls" (index $ $probe) }}
{{ $probe }}:
  {{- . | nindent 2 }}
{{- end }}
{{- end }}
{{- with .lifecycle }}
lifecycle:
  {{- toYaml . | nindent 2 }}
{{- end }}
resources:
  {{- toYaml .resources | nindent 2 }}
{{- with include "capstan.withoutNulls" .containerSecurityContext }}
securityContext:
  {{- . | nindent 2 }}
{{- end }}
{{- end }}

{{/* A map without what is null in it, as YAML; nothing if it is empty. Helm takes out a default that a user sets to null, but keeps a null that has no default. */}}
{{- define "capstan.withoutNulls" -}}
{{- $kept := dict -}}
{{- range $key, $value := . -}}
{{- if not (kindIs "invalid" $value) -}}
{{- $_ := set $kept $key $value -}}
{{- end -}}
{{- end -}}
{{- with $kept -}}
{{ toYaml . }}
{{- end -}}
{{- end }}

{{/* A PodDisruptionBudget. */}}
{{- define "capstan.budget" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $budget := (index . 2).podDisruptionBudget -}}
{{- $least := not (kindIs "invalid" $budget.minAvailable) -}}
{{- if and $least (not (kindIs "invalid" $budget.maxUnavailable)) -}}
{{- fail (printf "%s.podDisruptionBudget.minAvailable and %s.podDisruptionBudget.maxUnavailable exclude each other" $component $component) -}}
{{- end -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "capstan.fullname" $root }}-{{ $component }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "capstan.labels" . | nindent 4 }}
spec:
  {{- if $least }}
  minAvailable: {{ toYaml $budget.minAvailable }}
  {{- else }}
  maxUnavailable: {{ kindIs "invalid" $budget.maxUnavailable | ternary 1 $budget.maxUnavailable | toYaml }}
  {{- end }}
  # A pod that is not ready protects nobody.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "capstan.selector" . | nindent 6 }}
{{- end }}

{{/* "true" where the release believes in authorities of its own. Takes $, as the three that follow. */}}
{{- define "capstan.hasAuthorities" -}}
{{- if or .Values.caBundle.configMap .Values.caBundle.secret -}}true{{- end -}}
{{- end }}

{{/* The variable by which OpenSSL, and so all that the components dial by, finds them. */}}
{{- define "capstan.authorityEnv" -}}
{{- if include "capstan.hasAuthorities" . -}}
- name: SSL_CERT_FILE
  value: /etc/capstan/ca/ca.crt
{{- end -}}
{{- end }}

{{- define "capstan.authorityMount" -}}
{{- if include "capstan.hasAuthorities" . -}}
- {name: capstan-ca, mountPath: /etc/capstan/ca, readOnly: true}
{{- end -}}
{{- end }}

{{- define "capstan.authorityVolume" -}}
{{- with .Values.caBundle -}}
{{- if .configMap -}}
- name: capstan-ca
  configMap: {name: {{ .configMap }}, items: [{key: {{ .key | quote }}, path: ca.crt}]}
{{- else if .secret -}}
- name: capstan-ca
  secret: {secretName: {{ .secret }}, items: [{key: {{ .key | quote }}, path: ca.crt}]}
{{- end -}}
{{- end -}}
{{- end }}
