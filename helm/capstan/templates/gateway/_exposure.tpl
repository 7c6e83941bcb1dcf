{{- /* The base URL of the gateway: for clients outside where the values say one, else for those of the cluster. An Ingress comes before a
route; a host with a wildcard is no address. */ -}}
{{- define "capstan.gatewayUrl" -}}
{{- $ingress := .Values.gateway.ingress -}}
{{- $route := .Values.gateway.httpRoute -}}
{{- $host := first ($ingress.hosts | default list) | default "" -}}
{{- $name := first ($route.hostnames | default list) | default "" -}}
{{- $port := int .Values.gateway.service.port -}}
{{- if .Values.gateway.url -}}
{{ .Values.gateway.url }}
{{- else if and $ingress.enabled $host (not (hasPrefix "*" $host)) -}}
{{ printf "%s://%s%s" (ternary "https" "http" (not (empty $ingress.tls))) $host (include "capstan.apiPath" $ingress.path) }}
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

{{- /* JSON object with the annotations of the Ingress: those of its controller, and over them the user's. Each is of the controller's own
reference; docs/exposure.md says what they do, and what an Ingress cannot say. */ -}}
{{- define "capstan.ingressAnnotations" -}}
{{- $ingress := .Values.gateway.ingress -}}
{{- $seconds := int $ingress.timeoutSeconds -}}
{{- $has := dict -}}
{{- if eq $ingress.controller "nginx" -}}
{{- range $name, $value := dict "proxy-read-timeout" $seconds "proxy-send-timeout" $seconds "proxy-buffering" "off" "proxy-request-buffering" "off" "proxy-body-size" "0" -}}
{{- $_ := set $has (printf "nginx.ingress.kubernetes.io/%s" $name) (toString $value) -}}
{{- end -}}
{{- range $name, $value := dict "proxy-read-timeout" (printf "%ds" $seconds) "proxy-send-timeout" (printf "%ds" $seconds) "proxy-buffering" "false" "client-max-body-size" "0" -}}
{{- $_ := set $has (printf "nginx.org/%s" $name) $value -}}
{{- end -}}
{{- else if eq $ingress.controller "haproxy" -}}
{{- $_ := set $has "haproxy.org/timeout-server" (printf "%ds" $seconds) -}}
{{- $_ := set $has "haproxy-ingress.github.io/timeout-server" (printf "%ds" $seconds) -}}
{{- else if eq $ingress.controller "alb" -}}
{{- $_ := set $has "alb.ingress.kubernetes.io/target-type" "ip" -}}
{{- $_ := set $has "alb.ingress.kubernetes.io/healthcheck-path" "/readyz" -}}
{{- $_ := set $has "alb.ingress.kubernetes.io/load-balancer-attributes" (printf "idle_timeout.timeout_seconds=%d" (include "capstan.albSeconds" . | int)) -}}
{{- $_ := set $has "alb.ingress.kubernetes.io/target-group-attributes" (printf "deregistration_delay.timeout_seconds=%d" (min 3600 (int .Values.gateway.graceSeconds))) -}}
{{- if $ingress.tls -}}
{{- $_ := set $has "alb.ingress.kubernetes.io/listen-ports" `[{"HTTP": 80}, {"HTTPS": 443}]` -}}
{{- $_ := set $has "alb.ingress.kubernetes.io/ssl-redirect" "443" -}}
{{- end -}}
{{- else if eq $ingress.controller "gce" -}}
{{- $_ := set $has "kubernetes.io/ingress.class" ($ingress.className | default "gce") -}}
{{- else if eq $ingress.controller "openshift" -}}
{{- $_ := set $has "haproxy.router.openshift.io/timeout" (printf "%ds" $seconds) -}}
{{- if $ingress.tls -}}
{{- $_ := set $has "route.openshift.io/termination" "edge" -}}
{{- end -}}
{{- end -}}
{{- merge (deepCopy ($ingress.annotations | default dict)) $has | toJson -}}
{{- end }}

{{- /* For how long an ALB waits: 4000 seconds are its most. */ -}}
{{- define "capstan.albSeconds" -}}
{{ min 4000 (int .Values.gateway.ingress.timeoutSeconds) }}
{{- end }}

{{- /* For how long the gateway keeps a client's connection. A load balancer in front of it must be the first to end one, or it sends
requests into connections that have just been closed: an ALB keeps them for its idle timeout, Google's for 600 seconds. */ -}}
{{- define "capstan.clientKeepAlive" -}}
{{- $least := 0 -}}
{{- if and .Values.gateway.ingress.enabled (eq .Values.gateway.ingress.controller "alb") -}}
{{- $least = add 15 (include "capstan.albSeconds" . | int) -}}
{{- else if or (and .Values.gateway.ingress.enabled (eq .Values.gateway.ingress.controller "gce")) (and .Values.gateway.httpRoute.enabled (eq .Values.gateway.httpRoute.controller "gke")) -}}
{{- $least = 620 -}}
{{- end -}}
{{- if gt (int $least) (int .Values.gateway.clientKeepAliveSeconds) -}}{{ $least }}{{- else -}}{{ .Values.gateway.clientKeepAliveSeconds }}{{- end -}}
{{- end }}

{{- /* JSON object with the annotations of the gateway's Service: what GKE's controller of Ingresses reads there, and over it the user's. */ -}}
{{- define "capstan.serviceAnnotations" -}}
{{- $has := dict -}}
{{- if and .Values.gateway.ingress.enabled (eq .Values.gateway.ingress.controller "gce") -}}
{{- $_ := set $has "cloud.google.com/neg" `{"ingress": true}` -}}
{{- $_ := set $has "cloud.google.com/backend-config" (printf `{"default": "%s-gateway"}` (include "capstan.fullname" .)) -}}
{{- end -}}
{{- merge (deepCopy (.Values.gateway.service.annotations | default dict)) $has | toJson -}}
{{- end }}

{{- /* Refuse values that expose the gateway in no way that works. */ -}}
{{- define "capstan.checkExposure" -}}
{{- with .Values.gateway.ingress -}}
{{- if and .enabled (eq .controller "openshift") (not .hosts) -}}
{{- fail "gateway.ingress.hosts is needed with gateway.ingress.controller=openshift: a Route is made only of an Ingress with hosts" -}}
{{- end -}}
{{- if and .enabled (eq .controller "gce") (hasKey (.annotations | default dict) "kubernetes.io/ingress.class") -}}
{{- fail "gateway.ingress.className is what the annotation kubernetes.io/ingress.class says with gateway.ingress.controller=gce: take it out of gateway.ingress.annotations" -}}
{{- end -}}
{{- end -}}
{{- if and .Values.gateway.httpRoute.enabled (not .Values.gateway.httpRoute.parentRefs) -}}
{{- fail "gateway.httpRoute.enabled needs gateway.httpRoute.parentRefs: a route without a Gateway leads nowhere" -}}
{{- end -}}
{{- $apis := .Capabilities.APIVersions -}}
{{- if and .Values.gateway.httpRoute.enabled (not ($apis.Has "gateway.networking.k8s.io/v1")) -}}
{{- fail "gateway.httpRoute.enabled is true, but this cluster does not know gateway.networking.k8s.io/v1: install the Gateway API first (helm template: --api-versions gateway.networking.k8s.io/v1)" -}}
{{- end -}}
{{- end }}
