{{- /* The base URL of the gateway: for clients outside where the values say one, else for those of the cluster. An Ingress comes before a
route; a host with a wildcard is no address. */ -}}
{{- define "capstan.gatewayUrl" -}}
{{- $ingress := .Values.gateway.ingress -}}
{{- $route := .Values.gateway.httpRoute -}}
{{- $host := first $ingress.hosts | default "" -}}
{{- $name := first $route.hostnames | default "" -}}
{{- $port := int .Values.gateway.service.port -}}
{{- if .Values.gateway.url -}}
{{ .Values.gateway.url }}
{{- else if and $ingress.enabled $host (not (hasPrefix "*" $host)) -}}
{{ printf "%s://%s%s" (ternary "https" "http" (gt (len $ingress.tls) 0)) $host (include "capstan.apiPath" $ingress.path) }}
{{- else if and $route.enabled $name (not (hasPrefix "*" $name)) -}}
{{ printf "%s://%s%s" $route.scheme $name (include "capstan.apiPath" $route.path) }}
{{- else -}}
{{ printf "http://%s-gateway.%s.svc%s/v1" (include "capstan.fullname" .) .Release.Namespace (eq $port 80 | ternary "" (printf ":%d" $port)) }}
{{- end -}}
{{- end }}

{{- /* The path of the API for clients that come by a path of the gateway. */ -}}
{{- define "capstan.apiPath" -}}
{{- if hasPrefix "/v1/" (printf "%s/" .) -}}/v1{{- else -}}{{ trimSuffix "/" . }}/v1{{- end -}}
{{- end }}
