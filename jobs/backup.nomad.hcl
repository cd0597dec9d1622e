# Backups by the clock: a snapshot of the masters' state and a dump of the accounts, both verified by the commands that write them.
# `nomad job periodic force wavry-backup` runs it now. Restoring is rehearsed in docs/nomad.md.
#
# Nomad Variable nomad/jobs/wavry-backup holds: ca (PEM), dsn (postgres://..., a role that may read everything).

variable "namespace" {
  type        = string
  description = "Nomad namespace of the fleet: whoever may submit jobs there may call them by any name"
  default     = "wavry"
}

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

variable "user" {
  type        = string
  description = "ordinary user that the service runs as, known on the nodes and in the image"
  default     = "wavry"
}

variable "uid" {
  type        = number
  description = "its uid and gid, the same everywhere"
  default     = 970
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
  namespace   = var.namespace
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

    # State belongs to the service's user. This task alone is root, and makes the directory.
    task "prepare" {
      lifecycle {
        hook = "prestart"
      }
      driver = var.driver
      user   = "root"

      dynamic "config" {
        for_each = var.driver == "docker" ? [] : [1]
        content {
          command = "/usr/bin/install"
          args    = local.prepare
        }
      }
      dynamic "config" {
        for_each = var.driver == "docker" ? [1] : []
        content {
          image      = var.image
          cap_drop   = ["all"]
          cap_add    = ["chown", "fowner"]
          entrypoint = ["/usr/bin/install"]
          args       = local.prepare
          volumes    = ["${meta.wavry_backup}:${meta.wavry_backup}"]
        }
      }

      resources {
        cpu    = 20
        memory = 16
      }
    }

    task "backup" {
      driver = var.driver
      user   = var.user

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
          cap_drop     = ["all"]
          entrypoint   = ["/bin/sh"]
          args         = ["${NOMAD_TASK_DIR}/backup.sh"]
          network_mode = "host"
          volumes      = ["${meta.wavry_backup}:${meta.wavry_backup}"]
        }
      }

      # The identity of a backup, for this task alone: it may copy the masters' state and nothing else.
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
        perms       = "0400"
        data        = <<-EOT
          WAVRY_ADDR={{ range $i, $s := nomadService "wavry-master" }}{{ if $i }},{{ end }}{{ $s.Address }}:{{ $s.Port }}{{ end }}
          WAVRY_GATEWAY_STORE_DRIVER=postgres
          {{ with nomadVar "nomad/jobs/wavry-backup" }}WAVRY_GATEWAY_STORE_DSN_SECRET={{ .dsn }}{{ end }}
        EOT
      }

      template {
        destination = "secrets/ca.pem"
        perms       = "0400"
        uid         = var.uid
        data        = "{{ with nomadVar \"nomad/jobs/wavry-backup\" }}{{ .ca }}{{ end }}"
      }

      template {
        destination = "local/backup.sh"
        data        = <<-EOT
          set -eu
          umask 077
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

locals {
  prepare = ["-d", "-o", "${var.uid}", "-g", "${var.uid}", "-m", "0700", "${meta.wavry_backup}/master", "${meta.wavry_backup}/accounts"]
}
