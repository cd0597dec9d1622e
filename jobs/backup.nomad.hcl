# Backups by the clock: a snapshot of the masters' state and a dump of the accounts, both verified by the commands that write them.
# `nomad job periodic force wavry-backup` runs it now. Restoring is rehearsed in docs/nomad.md.
#
# Nomad Variable nomad/jobs/wavry-backup holds: ca (PEM), dsn (postgres://..., a role that may read everything).

variable "datacenters" {
  type    = list(string)
  default = ["*"]
}

variable "driver" {
  type        = string
  description = "raw_exec or exec (static binary in bin_dir), or docker"
  default     = "raw_exec"
  validation {
    condition     = contains(["raw_exec", "exec", "docker"], var.driver)
    error_message = "The driver must be raw_exec, exec or docker."
  }
}

variable "bin_dir" {
  type        = string
  description = "directory of the wavry binary on the nodes"
  default     = "/opt/wavry/bin"
}

variable "image" {
  type    = string
  default = "wavry/wavry:latest"
}

variable "cron" {
  type    = string
  default = "17 3 * * *"
}

variable "keep_days" {
  type    = number
  default = 14
}

job "wavry-backup" {
  datacenters = var.datacenters
  type        = "batch"

  periodic {
    crons            = [var.cron]
    prohibit_overlap = true
  }

  # The one node with the place for backups: wavry_backup = "/mnt/backup".
  constraint {
    attribute = "${meta.wavry_backup}"
    operator  = "is_set"
  }

  group "backup" {
    # A missed backup is tried again today, not tomorrow.
    reschedule {
      attempts       = 3
      interval       = "6h"
      delay          = "5m"
      delay_function = "exponential"
      max_delay      = "1h"
      unlimited      = false
    }

    task "backup" {
      driver = var.driver

      dynamic "config" {
        for_each = var.driver == "docker" ? [] : [1]
        content {
          command = "/bin/sh"
          args    = ["${NOMAD_TASK_DIR}/backup.sh"]
        }
      }
      dynamic "config" {
        for_each = var.driver == "docker" ? [1] : []
        content {
          image        = var.image
          entrypoint   = ["/bin/sh"]
          args         = ["${NOMAD_TASK_DIR}/backup.sh"]
          network_mode = "host"
          volumes      = ["${meta.wavry_backup}:${meta.wavry_backup}"]
        }
      }

      # An operator's identity for this task alone.
      identity {
        name = "wavry"
        aud  = ["wavry"]
        ttl  = "1h"
        file = true
      }

      env {
        WAVRY            = "${var.bin_dir}/wavry"
        BACKUP           = "${meta.wavry_backup}"
        KEEP_DAYS        = "${var.keep_days}"
        WAVRY_CACERT     = "${NOMAD_SECRETS_DIR}/ca.pem"
        WAVRY_TOKEN_FILE = "${NOMAD_SECRETS_DIR}/nomad_wavry.jwt"
      }

      template {
        destination = "secrets/backup.env"
        env         = true
        data        = <<-EOT
          WAVRY_ADDR={{ range $i, $s := nomadService "wavry-master" }}{{ if $i }},{{ end }}{{ $s.Address }}:{{ $s.Port }}{{ end }}
          WAVRY_GATEWAY_STORE_DRIVER=postgres
          {{ with nomadVar "nomad/jobs/wavry-backup" }}WAVRY_GATEWAY_STORE_DSN_SECRET={{ .dsn }}{{ end }}
        EOT
      }

      template {
        destination = "secrets/ca.pem"
        data        = "{{ with nomadVar \"nomad/jobs/wavry-backup\" }}{{ .ca }}{{ end }}"
      }

      template {
        destination = "local/backup.sh"
        data        = <<-EOT
          set -eu
          umask 077
          mkdir -p "$BACKUP/master" "$BACKUP/accounts"
          snapshot=$BACKUP/master/$(date -u +%Y%m%dT%H%M%SZ).snap
          "$WAVRY" operator snapshot save "$snapshot"
          "$WAVRY" operator snapshot inspect "$snapshot"
          "$WAVRY" gateway backup -out "$BACKUP/accounts"
          # What is old goes only after today's is there.
          find "$BACKUP/master" "$BACKUP/accounts" -type f -mtime "+$KEEP_DAYS" -delete
        EOT
      }

      resources {
        cpu    = 200
        memory = 256
      }
    }
  }
}
