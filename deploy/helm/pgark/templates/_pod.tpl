{{- /* A number as YAML has it: of a large one, Go's own text is 1e+06. */ -}}
{{- define "pgark.text" -}}
{{- if kindIs "string" . }}{{ . }}{{ else }}{{ toJson . }}{{ end -}}
{{- end -}}

{{- /* The name of a secret's volume: without the dots that the name of a secret may have. */ -}}
{{- define "pgark.secretVolume" -}}
{{ printf "secret-%s" . | replace "." "-" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- /* The pod of both modes; command is daemon or once. */ -}}
{{- define "pgark.pod" -}}
{{- $root := .root -}}
metadata:
  labels:
    {{- include "pgark.labels" $root | nindent 4 }}
    {{- with $root.Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    checksum/config: {{ toJson $root.Values.config | sha256sum }}
    {{- with $root.Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "pgark.serviceAccount" $root }}
  # pgark asks the cluster for nothing.
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ $root.Values.terminationGracePeriodSeconds }}
  {{- if eq .command "once" }}
  restartPolicy: Never
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 1000
    runAsGroup: 1000
    fsGroup: 1000
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile: { type: RuntimeDefault }
  {{- with $root.Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $root.Values.priorityClassName }}
  priorityClassName: {{ . | quote }}
  {{- end }}
  containers:
    - name: pgark
      image: {{ include "pgark.image" $root | quote }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      args: [{{ .command }}]
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: { drop: [ALL] }
      env:
        - { name: PGARK_STOP_GRACE, value: {{ include "pgark.text" $root.Values.stopGrace | quote }} }
        {{- if $root.Values.config }}
        - { name: PGARK_CONFIG, value: /etc/pgark/pgark.yaml }
        {{- else if eq .command "daemon" }}
        - { name: BACKUP_SCHEDULE, value: {{ $root.Values.schedule | quote }} }
        - { name: TZ, value: {{ $root.Values.timeZone | quote }} }
        {{- end }}
        {{- range $name, $value := $root.Values.env }}
        - { name: {{ $name | quote }}, value: {{ include "pgark.text" $value | quote }} }
        {{- end }}
      {{- with $root.Values.existingSecrets.env }}
      envFrom:
        {{- range . }}
        - secretRef: { name: {{ . | quote }} }
        {{- end }}
      {{- end }}
      {{- if eq .command "daemon" }}
      ports:
        - { name: http, containerPort: 8080 }
      # A late backup is an alert, and no reason to restart a daemon that may be making it.
      livenessProbe:
        httpGet: { path: /healthz, port: http }
        periodSeconds: 30
        timeoutSeconds: 5
        failureThreshold: 5
      readinessProbe:
        httpGet: { path: /readyz, port: http }
        periodSeconds: 10
        timeoutSeconds: 5
      startupProbe:
        httpGet: { path: /healthz, port: http }
        periodSeconds: 2
        failureThreshold: 60
      {{- end }}
      {{- with $root.Values.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      volumeMounts:
        - { name: tmp, mountPath: /tmp }
        {{- if $root.Values.persistence.enabled }}
        - { name: data, mountPath: /data }
        {{- end }}
        {{- if $root.Values.config }}
        - { name: config, mountPath: /etc/pgark, readOnly: true }
        {{- end }}
        {{- range $root.Values.existingSecrets.files }}
        - { name: {{ include "pgark.secretVolume" . }}, mountPath: /run/secrets/{{ . }}, readOnly: true }
        {{- end }}
        {{- with $root.Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: tmp
      emptyDir: { sizeLimit: {{ $root.Values.tmp.sizeLimit }} }
    {{- if $root.Values.persistence.enabled }}
    - name: data
      persistentVolumeClaim:
        claimName: {{ $root.Values.persistence.existingClaim | default (include "pgark.name" $root) }}
    {{- end }}
    {{- if $root.Values.config }}
    - name: config
      configMap: { name: {{ include "pgark.name" $root }} }
    {{- end }}
    {{- range $root.Values.existingSecrets.files }}
    - name: {{ include "pgark.secretVolume" . }}
      secret: { secretName: {{ . | quote }}, defaultMode: 0440 }
    {{- end }}
    {{- with $root.Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $root.Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $root.Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $root.Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
