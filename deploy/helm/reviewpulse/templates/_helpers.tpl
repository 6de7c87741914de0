{{/* Names and what all pods share. A pod's own part is in its file. */}}

{{- define "reviewpulse.name" -}}
{{- if contains "reviewpulse" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-reviewpulse" .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "reviewpulse.image" -}}
{{- $tag := .Values.image.tag | default .Chart.AppVersion -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ $tag }}
{{- end -}}
{{- end -}}

{{/* Called with (list root component). */}}
{{- define "reviewpulse.selector" -}}
app.kubernetes.io/name: reviewpulse
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "reviewpulse.labels" -}}
{{ include "reviewpulse.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ (index . 0).Chart.Name }}-{{ (index . 0).Chart.Version }}
{{- end -}}

{{- define "reviewpulse.secret" -}}
{{- .Values.secrets.existingSecret | default (include "reviewpulse.name" .) -}}
{{- end -}}

{{- define "reviewpulse.has-secret" -}}
{{- if or .Values.secrets.existingSecret .Values.secrets.create -}}true{{- end -}}
{{- end -}}

{{- define "reviewpulse.serviceaccount" -}}
{{- .Values.serviceAccount.name | default (include "reviewpulse.name" .) -}}
{{- end -}}

{{/* Numbers in values come as floats: 16384 must not become 1.6384e+04. */}}
{{- define "reviewpulse.plain" -}}
{{- if and (kindIs "float64" .) (eq . (floor .)) -}}{{ printf "%.0f" . }}{{- else -}}{{ toString . }}{{- end -}}
{{- end -}}

{{/* Whether a pod has bundles of a volume: workers score with one, and so does the page's API. */}}
{{- define "reviewpulse.has-bundles" -}}
{{- $bundle := (index . 0).Values.bundle -}}
{{- if and (has (index . 1) (list "worker" "web")) (or $bundle.existingClaim $bundle.image) -}}true{{- end -}}
{{- end -}}

{{/* Copies the bundle out of its image. */}}
{{- define "reviewpulse.bundle-init" -}}
{{- if .Values.bundle.image }}
initContainers:
  - name: bundle
    image: {{ .Values.bundle.image }}
    command: ["sh", "-c", 'cp -R "$0"/. /bundles/', {{ .Values.bundle.from | quote }}]
    securityContext:
      {{- include "reviewpulse.container-security" . | nindent 6 }}
    resources:
      requests: {cpu: 50m, memory: 64Mi}
      limits: {memory: 256Mi}
    volumeMounts:
      - name: bundles
        mountPath: /bundles
{{- end }}
{{- end -}}

{{/* The settings of every process. Called with (list root component). */}}
{{- define "reviewpulse.env" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- range $name, $value := $root.Values.config }}
{{- if not (and (eq $component "worker") $root.Values.worker.gpu.enabled (has $name (list "provider" "token_budget"))) }}
{{- if not (kindIs "invalid" $value) }}
- name: REVIEWPULSE_{{ upper $name }}
  value: {{ include "reviewpulse.plain" $value | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- if and $root.Values.bundle.path (has $component (list "worker" "web")) }}
- name: REVIEWPULSE_BUNDLE
  value: {{ $root.Values.bundle.path | quote }}
{{- end }}
{{- if ne $component "topics" }}
# Kubelets and Prometheus ask from outside the container.
- name: REVIEWPULSE_HEALTH
  value: 0.0.0.0:8080
{{- end }}
{{- if and $root.Values.files.bundleKey (has $component (list "worker" "web")) }}
- name: REVIEWPULSE_BUNDLE_KEY
  value: /etc/reviewpulse/files/bundleKey.pem
{{- end }}
{{- if include "reviewpulse.has-secret" $root }}
- name: REVIEWPULSE_SECRETS_DIR
  value: /run/secrets/reviewpulse
{{- end }}
{{- range $server := list "kafka" "redis" }}
{{- $tls := index $root.Values.tls $server }}
{{- if $tls.secret }}
{{- if $tls.ca }}
- name: REVIEWPULSE_{{ upper $server }}_CA_FILE
  value: /etc/reviewpulse/{{ $server }}-tls/ca.crt
{{- end }}
{{- if $tls.clientCertificate }}
- name: REVIEWPULSE_{{ upper $server }}_CERT_FILE
  value: /etc/reviewpulse/{{ $server }}-tls/tls.crt
- name: REVIEWPULSE_{{ upper $server }}_KEY_FILE
  value: /etc/reviewpulse/{{ $server }}-tls/tls.key
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Called with (list root component files), files by setting. */}}
{{- define "reviewpulse.mounts" -}}
{{- $root := index . 0 -}}
- name: tmp
  mountPath: /tmp
{{- if include "reviewpulse.has-secret" $root }}
- name: secrets
  mountPath: /run/secrets/reviewpulse
  readOnly: true
{{- end }}
{{- range $server := list "kafka" "redis" }}
{{- if (index $root.Values.tls $server).secret }}
- name: {{ $server }}-tls
  mountPath: /etc/reviewpulse/{{ $server }}-tls
  readOnly: true
{{- end }}
{{- end }}
{{- if index . 2 }}
- name: files
  mountPath: /etc/reviewpulse/files
  readOnly: true
{{- end }}
{{- if include "reviewpulse.has-bundles" . }}
- name: bundles
  mountPath: /bundles
  readOnly: true
{{- end }}
{{- end -}}

{{- define "reviewpulse.volumes" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
- name: tmp
  emptyDir: {}
{{- if include "reviewpulse.has-secret" $root }}
- name: secrets
  secret:
    secretName: {{ include "reviewpulse.secret" $root }}
    defaultMode: 0440
    # Each process sees its own alone; those that the Secret lacks are left out.
    optional: true
    items:
      {{- range concat (list "kafka_password" "redis_password" "redis_sentinel_password") (ternary (list "web_tokens") (list) (eq $component "web")) }}
      - key: reviewpulse_{{ . }}
        path: reviewpulse_{{ . }}
      {{- end }}
{{- end }}
{{- range $server := list "kafka" "redis" }}
{{- if (index $root.Values.tls $server).secret }}
- name: {{ $server }}-tls
  secret:
    secretName: {{ (index $root.Values.tls $server).secret }}
    defaultMode: 0440
{{- end }}
{{- end }}
{{- if index . 2 }}
- name: files
  configMap:
    name: {{ include "reviewpulse.name" $root }}-files
    items:
      {{- range index . 2 }}
      - key: {{ . }}
        path: {{ . }}
      {{- end }}
{{- end }}
{{- if include "reviewpulse.has-bundles" . }}
- name: bundles
  {{- if $root.Values.bundle.existingClaim }}
  persistentVolumeClaim:
    claimName: {{ $root.Values.bundle.existingClaim }}
    readOnly: true
  {{- else }}
  emptyDir:
    sizeLimit: {{ $root.Values.bundle.sizeLimit }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* A pod of ours: nobody in particular, no rights, no token. */}}
{{- define "reviewpulse.pod" -}}
{{- $root := index . 0 -}}
serviceAccountName: {{ include "reviewpulse.serviceaccount" $root }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with $root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile:
    type: RuntimeDefault
{{- end -}}

{{- define "reviewpulse.container-security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "reviewpulse.placing" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* What rolls the pods when it changes. Called with (list root files). */}}
{{- define "reviewpulse.checksums" -}}
{{- $root := index . 0 -}}
{{- $read := list -}}
{{- range index . 1 }}{{ $read = append $read (index $root.Values.files (. | splitList "." | first)) }}{{ end -}}
checksum/files: {{ toJson $read | sha256sum }}
{{- with $root.Values.secrets.create }}
checksum/secrets: {{ toJson . | sha256sum }}
{{- end }}
{{- end -}}

{{/* Of the port that REVIEWPULSE_HEALTH opens. */}}
{{- define "reviewpulse.scraped" -}}
{{- if .Values.metrics.annotations }}
prometheus.io/scrape: "true"
prometheus.io/port: "8080"
prometheus.io/path: /metrics
{{- end }}
{{- end -}}
