{{- define "headgate.name" -}}
{{- if contains "headgate" .Release.Name }}{{ .Release.Name | trunc 52 | trimSuffix "-" }}{{ else }}{{ printf "%s-headgate" .Release.Name | trunc 52 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "headgate.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "headgate.selector" -}}
app.kubernetes.io/name: headgate
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "headgate.labels" -}}
{{ include "headgate.selector" . }}
app.kubernetes.io/part-of: headgate
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "headgate.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ default (include "headgate.name" .) .Values.serviceAccount.name }}{{ else }}{{ required "serviceAccount.name: needed when serviceAccount.create is false: name one that exists" .Values.serviceAccount.name }}{{ end }}
{{- end }}

{{- /* Changes with the URL, so that pods are made anew. By scrypt: who may read Deployments but not Secrets cannot guess
a weak password from it. */ -}}
{{- define "headgate.fingerprint" -}}
{{ derivePassword 1 "maximum" .url (printf "%s/%s" .release.Namespace .release.Name) "redis.url" }}
{{- end }}

{{- /* What the operator does, and no more. It reads one Secret at a time, by name, and never lists them. */ -}}
{{- define "headgate.rules" -}}
# pipelines: read, marked with a finaliser, their status written
- apiGroups: [headgate.dev]
  resources: [fanoutpipelines]
  verbs: [get, list, watch, patch]
- apiGroups: [headgate.dev]
  resources: [fanoutpipelines/status]
  verbs: [patch]
- apiGroups: [headgate.dev]
  resources: [fanoutpipelines/finalizers] # to own children where owner references are enforced
  verbs: [update]
# a branch's workers
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [pods] # priced before scale-in, awaited on removal
  verbs: [list, patch]
- apiGroups: [""]
  resources: [serviceaccounts, secrets]
  verbs: [get, create, patch, delete]
# what scales a branch of another engine than the pilot
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [get, list, create, patch, delete]
- apiGroups: [keda.sh]
  resources: [scaledobjects]
  verbs: [get, list, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, create, patch, delete]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}
