# What people see: sign-in, the web app, signaling. Behind a load balancer, or one per node that people's DNS names.
#
# Nomad Variable nomad/jobs/wavry-gateway holds: ca (PEM), dsn (postgres://...), key (of TOTP secrets, 32 bytes in base64), and, when the
# gateway itself ends TLS, tls_cert and tls_key (PEM).

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

variable "count" {
  type        = number
  description = "gateways, each on a node of its own; fewer than nodes, so that an update has room for its canary"
  default     = 2
}

variable "http_port" {
  type        = number
  description = "port for people, TCP; 0: any"
  default     = 8443
}

variable "tls" {
  type        = bool
  description = "end TLS with tls_cert and tls_key of the Nomad Variable; only a gateway on loopback may go without"
  default     = true
}

variable "public_url" {
  type        = string
  description = "scheme://host[:port] as browsers see it; empty: the bound address, on loopback only"
  default     = ""
}

variable "open_pools" {
  type        = string
  description = "patterns of pools that every account may use, with commas; admins grant the others"
  default     = ""
}

variable "force_relay" {
  type    = bool
  default = false
}

job "wavry-gateway" {
  namespace   = var.namespace
  datacenters = var.datacenters
  type        = "service"

  group "gateway" {
    count = var.count

    constraint {
      distinct_hosts = true
    }

    network {
      mode = "host"
      port "http" {
        static = var.http_port # 0 lets Nomad choose
      }
      port "ops" {}
    }

    # The gateway registers itself in Consul as wavry-gateway; this check decides about deployments.
    service {
      name        = "wavry-gateway"
      provider    = "nomad"
      port        = "http"
      tags        = ["live"]
      canary_tags = ["canary"]
      check {
        name     = "ready"
        type     = "http"
        port     = "ops"
        path     = "/readyz"
        interval = "5s"
        timeout  = "2s"
      }
    }

    # One canary takes part beside the old ones. It is promoted when its checks hold, and the job goes back by itself when they do
    # not. A gate that looks at more than checks sets auto_promote to false and calls `nomad deployment promote`.
    update {
      max_parallel      = 1
      canary            = 1
      auto_promote      = true
      auto_revert       = true
      health_check      = "checks"
      min_healthy_time  = "10s"
      healthy_deadline  = "2m"
      progress_deadline = "5m"
    }

    # Streams do not pass here and browsers come back by themselves: start again at once, in place, under the same address.
    restart {
      attempts = 5
      interval = "2m"
      delay    = "1s"
      mode     = "delay"
    }

    task "gateway" {
      driver = var.driver
      user   = var.user

      dynamic "config" {
        for_each = var.driver == "docker" ? [] : [1]
        content {
          command = "${var.bin_dir}/wavry"
          args    = ["gateway"]
        }
      }
      dynamic "config" {
        for_each = var.driver == "docker" ? [1] : []
        content {
          image        = var.image
          cap_drop     = ["all"]
          args         = ["gateway"]
          network_mode = "host"
        }
      }

      # Load balancers see /readyz fail before the port closes.
      shutdown_delay = "2s"
      kill_timeout   = "20s"

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
        WAVRY_GATEWAY_ID                    = "${NOMAD_JOB_NAME}@${node.unique.name}"
        WAVRY_GATEWAY_BIND_ADDR             = "${NOMAD_ADDR_http}"
        WAVRY_GATEWAY_OPS_ADDR              = "${NOMAD_ADDR_ops}"
        WAVRY_GATEWAY_PUBLIC_URL            = var.public_url
        WAVRY_GATEWAY_TLS_CERT_FILE         = var.tls ? "${NOMAD_SECRETS_DIR}/tls.pem" : ""
        WAVRY_GATEWAY_TLS_KEY_FILE          = var.tls ? "${NOMAD_SECRETS_DIR}/tls-key.pem" : ""
        WAVRY_GATEWAY_STORE_DRIVER          = "postgres" # more than one gateway
        WAVRY_GATEWAY_KEY_FILE              = "${NOMAD_SECRETS_DIR}/gateway.key"
        WAVRY_GATEWAY_OPEN_POOLS            = var.open_pools
        WAVRY_GATEWAY_FORCE_RELAY           = "${var.force_relay}"
        WAVRY_GATEWAY_MASTER_CA_FILE        = "${NOMAD_SECRETS_DIR}/ca.pem"
        WAVRY_GATEWAY_MASTER_TOKEN_FILE     = "${NOMAD_SECRETS_DIR}/nomad_wavry.jwt"
        WAVRY_GATEWAY_CONSUL                = "true"
        WAVRY_GATEWAY_CONSUL_ADDR           = "${meta.wavry_consul}" # unset on most nodes: the agent on its usual port
        WAVRY_GATEWAY_CONSUL_ADVERTISE_ADDR = "${NOMAD_ADDR_http}"
        WAVRY_GATEWAY_CONSUL_ADVERTISE_OPS  = "${NOMAD_ADDR_ops}"
        WAVRY_LOG_FORMAT                    = "json"
      }

      # The connection string holds a password: an environment made of a secret, not an argument.
      template {
        destination = "secrets/gateway.env"
        env         = true
        perms       = "0400"
        data        = <<-EOT
          {{ with nomadVar "nomad/jobs/wavry-gateway" }}WAVRY_GATEWAY_STORE_DSN_SECRET={{ .dsn }}{{ end }}
        EOT
      }

      dynamic "template" {
        for_each = merge({ ca = "ca.pem", key = "gateway.key" }, var.tls ? { tls_cert = "tls.pem", tls_key = "tls-key.pem" } : {})
        content {
          destination = "secrets/${template.value}"
          change_mode = "noop" # files are read again when they change
          perms       = "0400"
          uid         = var.uid
          data        = "{{ with nomadVar \"nomad/jobs/wavry-gateway\" }}{{ .${template.key} }}{{ end }}"
        }
      }

      resources {
        cpu    = 200
        memory = 256 # each password that is checked takes 64 MiB for a moment
      }
    }
  }
}
