{{- define "edict.labels" -}}
app.kubernetes.io/name: edict
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- /* What tells pods apart: (dict "root" $ "component" "worker" "pool" "a100") */ -}}
{{- define "edict.selector" -}}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- with .pool }}
edict/pool: {{ . }}
{{- end }}
{{- end }}

{{- /* Of every pod: no root, no word to the cluster. */ -}}
{{- define "edict.pod" -}}
serviceAccountName: {{ .Release.Name }}
automountServiceAccountToken: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.images.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* Of every container: (dict "root" $ "image" "control") */ -}}
{{- define "edict.container" -}}
{{- $image := index .root.Values.images .image -}}
image: "{{ $image.repository }}:{{ $image.tag }}{{ with $image.digest }}@{{ . }}{{ end }}"
imagePullPolicy: {{ $image.pullPolicy | default "IfNotPresent" }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- /* Settings and secrets: (dict "root" $ "secret" "edict-secrets") */ -}}
{{- define "edict.environment" -}}
envFrom:
  - configMapRef: {name: {{ .root.Release.Name }}-settings}
  - secretRef: {name: {{ .secret }}}
{{- end }}

{{- /* A change of the settings restarts the pods that read them. */ -}}
{{- define "edict.checksum" -}}
edict/settings: {{ toJson .Values.settings | sha256sum }}
{{- end }}
