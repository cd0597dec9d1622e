# A sway desktop with its host runtime, on nodes that have sway.
#
# Nomad Variable nomad/jobs/wavry-host-NAME holds: ca (PEM); NAME is the variable name.

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

variable "image" {
  type    = string
  default = "wavry/wavry:latest"
}

variable "count" {
  type        = number
  description = "desktops, each on a node of its own"
  default     = 1
}

variable "name" {
  type        = string
  description = "of the job, after wavry-host-: run the file once per name to have hosts that may not speak for each other"
  default     = "sway"
}

variable "pool" {
  type        = string
  description = "pool that people ask for"
  default     = "sway"
}

variable "region" {
  type    = string
  default = "default"
}

variable "size" {
  type        = string
  description = "size of the desktop, WIDTHxHEIGHT"
  default     = "1920x1080"
}

variable "app" {
  type        = string
  description = "command started in the desktop; empty: a terminal"
  default     = ""
}

variable "user" {
  type        = string
  description = "UID:GID of desktop and plugins, and of nothing else on the nodes, when the task runs as root; empty: one that nobody has"
  default     = ""
}

variable "run_dir" {
  type        = string
  description = "directory of runtime directories and homes; short, because the names of sockets are"
  default     = "/run/wavry"
}

variable "capture" {
  type        = string
  description = "capture plugins in order of preference, with commas; empty: every one that works"
  default     = ""
}

variable "encode" {
  type        = string
  description = "encoder plugins in order of preference, with commas; empty: every one that works, hardware first"
  default     = ""
}

variable "keep_desktop" {
  type        = bool
  description = "leave home and programs as they are between sessions, for nodes that are one person's; else the desktop is emptied after each"
  default     = false
}

variable "drain_timeout" {
  type        = string
  description = "how long running sessions may go on when the host is stopped; keep it below kill_timeout"
  default     = "5m"
}

job "host" {
  id          = local.name
  name        = local.name
  namespace   = var.namespace
  datacenters = var.datacenters
  type        = "service"

  # Operators say in the node's metadata which desktops are installed: wavry_desktops = "sway,gnome".
  constraint {
    attribute = "${meta.wavry_desktops}"
    operator  = "set_contains"
    value     = "sway"
  }
  constraint {
    attribute = "${meta.wavry_data}"
    operator  = "is_set"
  }

  group "host" {
    count = var.count

    # The host is named after its node, so there is one per node and job.
    constraint {
      distinct_hosts = true
    }

    network {
      mode = "host"
      port "quic" {} # UDP, for viewers and relays
      port "http" {} # TCP, for Consul and Prometheus
    }

    # The host registers itself in Consul as wavry-host, with what its probe found.
    service {
      name     = "wavry-host"
      provider = "nomad"
      port     = "http"
      tags     = [var.pool]
      check {
        name     = "ready"
        type     = "http"
        path     = "/readyz"
        interval = "5s"
        timeout  = "2s"
      }
    }

    update {
      max_parallel      = 1 # people are moved off one host at a time
      health_check      = "checks"
      min_healthy_time  = "5s"
      healthy_deadline  = "3m" # a cold GNOME and the trial of every plugin
      progress_deadline = "10m"
    }

    restart {
      attempts = 5
      interval = "5m"
      delay    = "2s"
      mode     = "delay"
    }

    # The session is lost with its node anyway; do not wait for the node to come back.
    disconnect {
      lost_after = "30s"
      replace    = true
    }

    # The desktop lives beside the host runtime: it is there first, restarts what dies in it, and goes last.
    task "desktop" {
      lifecycle {
        hook    = "prestart"
        sidecar = true
      }
      driver = var.driver
      user   = "root" # it gives what it starts to other users

      dynamic "config" {
        for_each = var.driver == "docker" ? [] : [1]
        content {
          command = "${var.bin_dir}/wavry"
          args    = local.desktop
        }
      }
      dynamic "config" {
        for_each = var.driver == "docker" ? [1] : []
        content {
          image        = var.image
          cap_drop     = ["all"]
          cap_add      = ["chown", "dac_override", "fowner", "fsetid", "kill", "setgid", "setpcap", "setuid", "sys_chroot"]
          args         = local.desktop
          network_mode = "host"
          volumes      = ["${var.run_dir}:${var.run_dir}", "/run/wavry-desktops:/run/wavry-desktops"] # homes; whose uid is taken
        }
      }

      kill_timeout = "10s"

      env {
        WAVRY_DESKTOP_SIZE      = var.size
        WAVRY_DESKTOP_USER      = var.user
        WAVRY_DESKTOP_STATE_DIR = "${var.run_dir}/${NOMAD_SHORT_ALLOC_ID}" # XDG runtime directory and home
        WAVRY_DESKTOP_ENV_FILE  = local.environ
        WAVRY_DESKTOP_APPS      = var.app
      }

      resources {
        cpu    = 1000
        memory = 1024
      }
    }

    task "host" {
      driver = var.driver
      user   = "root"

      dynamic "config" {
        for_each = var.driver == "docker" ? [] : [1]
        content {
          command = "${var.bin_dir}/wavry"
          args    = ["host"]
        }
      }
      dynamic "config" {
        for_each = var.driver == "docker" ? [1] : []
        content {
          image        = var.image
          cap_drop     = ["all"]
          cap_add      = ["chown", "dac_override", "fowner", "fsetid", "kill", "setgid", "setpcap", "setuid", "sys_chroot"]
          args         = ["host"]
          network_mode = "host"
          volumes      = ["${meta.wavry_data}:${meta.wavry_data}", "${var.run_dir}:${var.run_dir}"]
        }
      }

      # SIGTERM drains: nobody new, viewers are told, and after drain_timeout sessions end with a reason. Clients need
      # max_kill_timeout as long.
      kill_signal  = "SIGTERM"
      kill_timeout = "6m"

      # What the master knows this task by: a token that Nomad signs for it alone and renews in this file.
      identity {
        name = "wavry"
        aud  = ["wavry"]
        ttl  = "1h"
        file = true
      }

      # Consul knows this task by a token that Nomad gets for it (jobs/policies).
      consul {}

      # The token for the task API, by which the host tells Nomad what works on this node.
      identity {
        env = true
      }

      env {
        WAVRY_HOST_ID                = "${NOMAD_JOB_NAME}@${node.unique.name}"
        WAVRY_HOST_POOL              = var.pool
        WAVRY_HOST_REGION            = var.region
        WAVRY_HOST_STATE_DIR         = "${meta.wavry_data}/${NOMAD_JOB_NAME}" # its identity, which viewers check
        WAVRY_HOST_DESKTOP_ENV_FILE  = local.environ
        WAVRY_HOST_KEEP_DESKTOP      = "${var.keep_desktop}"
        WAVRY_HOST_BIND_ADDR         = "${NOMAD_ADDR_quic}"
        WAVRY_HOST_HTTP_ADDR         = "${NOMAD_ADDR_http}"
        WAVRY_HOST_CAPTURE           = var.capture # the node's wavry_capture and wavry_encode go over these,
        WAVRY_HOST_ENCODE            = var.encode  # and may change while sessions run
        WAVRY_HOST_PLUGIN_DIRS       = var.bin_dir
        WAVRY_HOST_DRAIN_TIMEOUT     = var.drain_timeout
        WAVRY_HOST_MASTER_CA_FILE    = "${NOMAD_SECRETS_DIR}/ca.pem"
        WAVRY_HOST_MASTER_TOKEN_FILE = "${NOMAD_SECRETS_DIR}/nomad_wavry.jwt"
        WAVRY_HOST_CONSUL            = "true"
        WAVRY_HOST_CONSUL_ADDR       = "${meta.wavry_consul}" # unset on most nodes: the agent on its usual port
        WAVRY_HOST_NOMAD             = "true"
        WAVRY_HOST_NOMAD_ADDR        = "unix://${NOMAD_SECRETS_DIR}/api.sock"
        WAVRY_LOG_FORMAT             = "json"
      }

      template {
        destination = "secrets/ca.pem"
        change_mode = "noop"
        perms       = "0400"
        data        = "{{ with nomadVar \"nomad/jobs/${local.name}\" }}{{ .ca }}{{ end }}"
      }

      resources {
        cpu    = 1000
        memory = 512
      }
    }

    # What the desktop's user left goes with the allocation.
    task "clean" {
      lifecycle {
        hook = "poststop"
      }
      driver = var.driver
      user   = "root"

      dynamic "config" {
        for_each = var.driver == "docker" ? [] : [1]
        content {
          command = "/bin/rm"
          args    = local.clean
        }
      }
      dynamic "config" {
        for_each = var.driver == "docker" ? [1] : []
        content {
          image      = var.image
          cap_drop   = ["all"]
          cap_add    = ["dac_override", "fowner"]
          entrypoint = ["/bin/rm"]
          args       = local.clean
          volumes    = ["${var.run_dir}:${var.run_dir}"]
        }
      }

      resources {
        cpu    = 20
        memory = 16
      }
    }
  }
}

locals {
  name    = "wavry-host-${var.name}"
  desktop = ["desktop", "run", "sway"]
  clean   = ["-rf", "${var.run_dir}/${NOMAD_SHORT_ALLOC_ID}"]
  environ = "${var.run_dir}/${NOMAD_SHORT_ALLOC_ID}/desktop.env" # where root alone can write
}
