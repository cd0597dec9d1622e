# Blind forwarders of encrypted packets, one on every node whose metadata says wavry_relay = "true" (system job). Run the file once per
# region, with -var region=..., to have regions: the job is then named wavry-relay-REGION.
#
# Nomad Variable nomad/jobs/wavry-relay (or -REGION) holds: ca (PEM).

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

variable "region" {
  type    = string
  default = "default"
}

variable "control_port" {
  type        = number
  description = "UDP port where hosts bind circuits; 0: any"
  default     = 4430
}

variable "first_media_port" {
  type        = number
  description = "first UDP port of the pool that viewers connect to; 0: any. One firewall rule: control port and pool"
  default     = 4500
}

variable "media_ports" {
  type    = number
  default = 64
  validation {
    condition     = var.media_ports >= 1 && var.media_ports <= 1024
    error_message = "A relay has 1 to 1024 media ports."
  }
}

variable "busy_poll" {
  type        = string
  description = "how long a worker looks at its sockets without sleeping after a packet: less delay for up to a core per worker; 0s: off"
  default     = "0s"
}

variable "drain_timeout" {
  type        = string
  description = "how long a drain waits for sessions to move to other relays; keep it below kill_timeout"
  default     = "2m"
}

locals {
  prepare = ["-d", "-o", "${var.uid}", "-g", "${var.uid}", "-m", "0700", "${meta.wavry_data}/relay"]
  name    = var.region == "default" ? "wavry-relay" : "wavry-relay-${var.region}"
}

job "relay" {
  id          = local.name
  name        = local.name
  namespace   = var.namespace
  datacenters = var.datacenters
  type        = "system"

  constraint {
    attribute = "${meta.wavry_relay}"
    value     = "true"
  }
  constraint {
    attribute = "${meta.wavry_data}"
    operator  = "is_set"
  }

  group "relay" {
    network {
      mode = "host"
      port "control" {
        static = var.control_port # 0 lets Nomad choose
      }
      port "http" {}
    }

    # The relay registers itself in Consul as wavry-relay with its key and ports. /ready fails while it drains or is overloaded;
    # that is no reason to restart it.
    service {
      name     = "wavry-relay"
      provider = "nomad"
      port     = "http"
      check {
        name     = "ready"
        type     = "http"
        path     = "/ready"
        interval = "5s"
        timeout  = "2s"
      }
    }

    update {
      max_parallel     = 1 # one relay drains while the others carry
      health_check     = "checks"
      min_healthy_time = "5s"
    }

    restart {
      attempts = 5
      interval = "2m"
      delay    = "1s"
      mode     = "delay"
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
          volumes    = ["${meta.wavry_data}:${meta.wavry_data}"]
        }
      }

      resources {
        cpu    = 20
        memory = 16
      }
    }

    task "relay" {
      driver = var.driver
      user   = var.user

      dynamic "config" {
        for_each = var.driver == "docker" ? [] : [1]
        content {
          command = "${var.bin_dir}/wavry"
          args    = ["relay"]
        }
      }
      dynamic "config" {
        for_each = var.driver == "docker" ? [1] : []
        content {
          image        = var.image
          cap_drop     = ["all"]
          args         = ["relay"]
          network_mode = "host"
          volumes      = ["${meta.wavry_data}:${meta.wavry_data}"]
        }
      }

      # SIGTERM drains: sessions move to other relays. Nomad must not kill before that is over; clients need max_kill_timeout as long.
      kill_signal  = "SIGTERM"
      kill_timeout = "3m"

      # What the master knows this task by: a token that Nomad signs for it alone and renews in this file.
      identity {
        name = "wavry"
        aud  = ["wavry"]
        ttl  = "1h"
        file = true
      }

      # Consul knows this task by a token that Nomad gets for it (jobs/policies).
      consul {}

      env {
        WAVRY_RELAY_ID                = "${NOMAD_JOB_NAME}@${node.unique.name}"
        WAVRY_RELAY_REGION            = var.region
        WAVRY_RELAY_STATE_DIR         = "${meta.wavry_data}/relay" # its key, which hosts know it by
        WAVRY_RELAY_BIND_ADDR         = "${NOMAD_IP_control}"
        WAVRY_RELAY_CONTROL_PORT      = "${NOMAD_PORT_control}"
        WAVRY_RELAY_FIRST_MEDIA_PORT  = "${var.first_media_port}"
        WAVRY_RELAY_MEDIA_PORTS       = "${var.media_ports}"
        WAVRY_RELAY_HTTP_ADDR         = "${NOMAD_ADDR_http}"
        WAVRY_RELAY_BUSY_POLL         = var.busy_poll
        WAVRY_RELAY_DRAIN_TIMEOUT     = var.drain_timeout
        WAVRY_RELAY_MASTER_CA_FILE    = "${NOMAD_SECRETS_DIR}/ca.pem"
        WAVRY_RELAY_MASTER_TOKEN_FILE = "${NOMAD_SECRETS_DIR}/nomad_wavry.jwt"
        WAVRY_RELAY_CONSUL            = "true"
        WAVRY_RELAY_CONSUL_ADDR       = "${meta.wavry_consul}" # unset on most nodes: the agent on its usual port
        WAVRY_LOG_FORMAT              = "json"
      }

      template {
        destination = "secrets/ca.pem"
        change_mode = "noop"
        perms       = "0400"
        uid         = var.uid
        data        = "{{ with nomadVar \"nomad/jobs/${local.name}\" }}{{ .ca }}{{ end }}"
      }

      resources {
        cpu    = 500
        memory = 128
      }
    }
  }
}
