{{/* Where Capstan's own images are. Nobody publishes them yet, so there is no default that could be pulled. */}}
{{- define "capstan.registry" -}}
{{ required "image.registry is needed: the registry, with a folder if you like, that you have pushed Capstan's images to (registry.example.com/capstan for registry.example.com/capstan/operator:TAG; docs/images.md). Or name the `repository` of each: operator.image, gateway.image and models.workerImage" .Values.image.registry }}
{{- end }}

{{/* The images of others: where their makers publish them, and the version that this release is made for. */}}
{{- define "capstan.upstream" -}}
redis: {host: docker.io, path: library/redis}
vllm: {host: docker.io, path: vllm/vllm-openai}
tgi: {host: ghcr.io, path: huggingface/text-generation-inference, tag: "3.3.7"}
sglang: {host: docker.io, path: lmsysorg/sglang, tag: v0.5.20}
{{- end }}

{{/* Repository of an image of others, as in capstan.upstream: its copy in image.registry, under the path that it has where it comes from; without image.registry
where it comes from. Takes (list $ "name"). */}}
{{- define "capstan.upstreamRepository" -}}
{{- $upstream := get (include "capstan.upstream" . | fromYaml) (index . 1) -}}
{{ printf "%s/%s" ((index . 0).Values.image.registry | default $upstream.host) $upstream.path }}
{{- end }}

{{/* An image of models: the one that the values name, as it is, else that of capstan.upstream. Takes (list $ "name" image). */}}
{{- define "capstan.engineImage" -}}
{{- $tag := (get (include "capstan.upstream" . | fromYaml) (index . 1)).tag -}}
{{ index . 2 | default (printf "%s%s" (include "capstan.upstreamRepository" .) (ternary (printf ":%s" $tag) "" (not (empty $tag)))) }}
{{- end }}

{{/* An image of the chart. Takes (list $ "name" imageValues), and what stands behind its tag if it is a variant. */}}
{{- define "capstan.image" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
{{- $image := index . 2 -}}
{{- $repository := $image.repository -}}
{{- if not $repository -}}
{{- if hasKey (include "capstan.upstream" . | fromYaml) $name -}}
{{- $repository = include "capstan.upstreamRepository" (list $root $name) -}}
{{- else -}}
{{- $repository = printf "%s/%s" (include "capstan.registry" $root) $name -}}
{{- end -}}
{{- end -}}
{{- if $image.digest -}}
{{ printf "%s@%s" $repository $image.digest }}
{{- else -}}
{{- $variant := "" -}}
{{- if gt (len .) 3 -}}{{- $variant = index . 3 -}}{{- end -}}
{{ printf "%s:%s%s" $repository ($image.tag | default $root.Values.image.tag | default $root.Chart.AppVersion) $variant }}
{{- end -}}
{{- end }}
