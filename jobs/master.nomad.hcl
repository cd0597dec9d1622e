# The control plane: three servers that agree through Raft. Run this job first; the others find it in Consul.
#
# Nomad Variable nomad/jobs/wavry-master holds: ca, cert, key (PEM: certificate master/NAME, "wavry tls cert"), kek (64 hex digits).

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

variable "servers" {
  type    = number
  default = 3
  validation {
    condition     = contains([1, 3, 5], var.servers)
    error_message = "Raft needs 1, 3 or 5 servers."
  }
}

variable "api_port" {
  type        = number
  description = "port of API and Raft, TCP; 0: any, for tests: servers that all start again at new addresses do not find each other"
  default     = 7401
}

variable "nomad_jwks_url" {
  type        = string
  description = "where Nomad publishes the keys of workload identities"
  default     = "https://nomad.service.consul:4646/.well-known/jwks.json"
}

variable "host_rules" {
  type        = list(string)
  description = "what hosts may offer, HOST=POOL[|POOL...]/SLOTS[/REGION]; what no rule allows waits for wavry host approve"
  default     = ["wavry-host-{name}@*={name}/1"] # job wavry-host-NAME serves pool NAME, one person per node
}

variable "key_publish_ahead" {
  type    = string
  default = "5m"
}

variable "probation_time" {
  type        = string
  description = "how long a new or returning relay is on probation at least"
  default     = "1m"
}

variable "probation_successes" {
  type        = number
  description = "circuits that must work before a relay is active"
  default     = 20
}

job "wavry-master" {
  namespace   = var.namespace
  datacenters = var.datacenters
  type        = "service"

  group "master" {
    count = var.servers

    # Two servers on one node would fail together.
    constraint {
      distinct_hosts = true
    }

    # Raft's log stays on its node, so a server is named after its node and is the same server when it starts again.
    # raw_exec cannot mount volumes; a directory named by the node serves every driver.
    constraint {
      attribute = "${meta.wavry_data}"
      operator  = "is_set"
    }

    network {
      mode = "host"
      port "api" {
        static = var.api_port # 0 lets Nomad choose
      }
      port "ops" {} # TCP, plain HTTP, for Prometheus and checks
    }

    # The servers register themselves in Consul as wavry-master, with what only they know. Nomad's own catalog gets this one: its
    # check decides about deployments, and needs no Consul token.
    service {
      name     = "wavry-master"
      provider = "nomad"
      port     = "api"
      check {
        name     = "ready"
        type     = "http"
        port     = "ops"
        path     = "/readyz"
        interval = "5s"
        timeout  = "2s"
      }
    }

    # One after the other, and only while the others answer: a majority never stops.
    update {
      max_parallel      = 1
      health_check      = "checks"
      min_healthy_time  = "5s"
      healthy_deadline  = "2m"
      progress_deadline = "5m"
    }

    # A server that keeps failing is restarted where its data is, with pauses, for ever.
    restart {
      attempts = 5
      interval = "2m"
      delay    = "2s"
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

    task "master" {
      driver = var.driver
      user   = var.user

      dynamic "config" {
        for_each = var.driver == "docker" ? [] : [1]
        content {
          command = "${var.bin_dir}/wavry"
          args    = ["master"]
        }
      }
      dynamic "config" {
        for_each = var.driver == "docker" ? [1] : []
        content {
          image        = var.image
          cap_drop     = ["all"]
          args         = ["master"]
          network_mode = "host"
          volumes      = ["${meta.wavry_data}:${meta.wavry_data}"]
        }
      }

      # Long enough to hand the leadership over and to end calls.
      kill_timeout = "20s"

      # Consul knows this task by a token that Nomad gets for it (jobs/policies).
      consul {}

      env {
        WAVRY_MASTER_ID                        = "${node.unique.name}"
        WAVRY_MASTER_BIND                      = "${NOMAD_ADDR_api}"
        WAVRY_MASTER_OPS_ADDR                  = "${NOMAD_ADDR_ops}"
        WAVRY_MASTER_DATA_DIR                  = "${meta.wavry_data}/master"
        WAVRY_MASTER_BOOTSTRAP_EXPECT          = "${var.servers}"
        WAVRY_MASTER_CA_FILE                   = "${NOMAD_SECRETS_DIR}/ca.pem"
        WAVRY_MASTER_CERT_FILE                 = "${NOMAD_SECRETS_DIR}/cert.pem"
        WAVRY_MASTER_KEY_FILE                  = "${NOMAD_SECRETS_DIR}/key.pem"
        WAVRY_MASTER_KEK_FILE                  = "${NOMAD_SECRETS_DIR}/kek"
        WAVRY_MASTER_NOMAD_JWKS_URL            = var.nomad_jwks_url
        WAVRY_MASTER_NOMAD_NAMESPACE           = var.namespace
        WAVRY_MASTER_HOST_RULES                = join(",", var.host_rules)
        WAVRY_MASTER_KEY_PUBLISH_AHEAD         = var.key_publish_ahead
        WAVRY_MASTER_RELAY_PROBATION_TIME      = var.probation_time
        WAVRY_MASTER_RELAY_PROBATION_SUCCESSES = "${var.probation_successes}"
        WAVRY_MASTER_CONSUL                    = "true"
        WAVRY_MASTER_CONSUL_ADDR               = "${meta.wavry_consul}" # unset on most nodes: the agent on its usual port
        WAVRY_LOG_FORMAT                       = "json"
      }

      # Certificates are read again when they change, so a renewed one needs no restart.
      dynamic "template" {
        for_each = { ca = "ca.pem", cert = "cert.pem", key = "key.pem", kek = "kek" }
        content {
          destination = "secrets/${template.value}"
          change_mode = "noop"
          perms       = "0400"
          uid         = var.uid
          data        = "{{ with nomadVar \"nomad/jobs/wavry-master\" }}{{ .${template.key} }}{{ end }}"
        }
      }

      resources {
        cpu    = 200
        memory = 128
      }
    }
  }
}

locals {
  prepare = ["-d", "-o", "${var.uid}", "-g", "${var.uid}", "-m", "0700", "${meta.wavry_data}/master"]
}
