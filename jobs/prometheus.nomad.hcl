# Prometheus that finds every process of the fleet in Consul, with SLIs, targets and alerts of slo.yml. Skip it where there is one
# already, and take over its scrape configuration and that file.

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
  type    = string
  default = "docker"
  validation {
    condition     = contains(["raw_exec", "exec", "docker"], var.driver)
    error_message = "The driver must be raw_exec, exec or docker."
  }
}

variable "image" {
  type    = string
  default = "prom/prometheus:v3.5.0"
}

variable "command" {
  type        = string
  description = "the binary on the nodes, without docker"
  default     = "/usr/bin/prometheus" # where Debian's package has it
}

variable "http_port" {
  type        = number
  description = "port of Prometheus itself, TCP; 0: any"
  default     = 9090
}

variable "tier" {
  type        = string
  description = "which targets of slo.yml this fleet is held to"
  default     = "prod"
  validation {
    condition     = contains(["dev", "stage", "prod"], var.tier)
    error_message = "The tier must be dev, stage or prod."
  }
}

variable "rules" {
  type        = string
  description = "file of indicators, targets and alerts, as seen from where nomad job run is called"
  default     = "jobs/slo.yml"
}

variable "retention" {
  type    = string
  default = "15d"
}

job "wavry-prometheus" {
  namespace   = var.namespace
  datacenters = var.datacenters
  type        = "service"

  # Its data stays on one node.
  constraint {
    attribute = "${meta.wavry_prometheus}"
    value     = "true"
  }

  group "prometheus" {
    network {
      mode = "host"
      port "http" {
        static = var.http_port # 0 lets Nomad choose
      }
    }

    service {
      name     = "prometheus"
      provider = "nomad"
      port     = "http"
      check {
        type     = "http"
        path     = "/-/ready"
        interval = "10s"
        timeout  = "2s"
      }
    }

    task "prometheus" {
      driver = var.driver
      user   = "root" # the image's own user may not write to the node's directory; named, so that Nomad gives its token to nobody else

      dynamic "config" {
        for_each = var.driver == "docker" ? [] : [1]
        content {
          command = var.command
          args    = local.args
        }
      }
      dynamic "config" {
        for_each = var.driver == "docker" ? [1] : []
        content {
          image        = var.image
          args         = local.args
          network_mode = "host"
          volumes      = ["${meta.wavry_data}/prometheus:${meta.wavry_data}/prometheus"]
        }
      }

      # Read access to the catalog (jobs/policies/wavry-prometheus.hcl).
      consul {}

      template {
        destination   = "local/prometheus.yml"
        change_mode   = "signal"
        change_signal = "SIGHUP"
        data          = <<-EOT
          global:
            scrape_interval: 5s
            evaluation_interval: 5s
          rule_files: [slo.yml]
          scrape_configs:
            - job_name: wavry
              file_sd_configs: [{files: [wavry.yml]}]
        EOT
      }

      # Everything that is in Consul, healthy or not, so that what is down is seen. Nomad asks Consul, so neither a token nor an address
      # is in a file, and Prometheus watches this one. Where operators look is in "ops": the service's own port is for people and packets.
      # Labels come from closed sets. Sessions and people are never labels.
      template {
        destination = "local/wavry.yml"
        change_mode = "noop"
        data        = <<-EOT
          {{ range $role := "wavry-master wavry-relay wavry-host wavry-gateway" | split " " }}{{ range service (print $role "|any") }}
          - targets: ["{{ .ServiceMeta.ops }}"]
            labels: {role: {{ $role }}, node: "{{ .Node }}", region: "{{ .ServiceMeta.region }}", tier: ${var.tier}}
          {{ end }}{{ end }}
        EOT
      }

      # What the alerts say is a template too, in Prometheus' language.
      template {
        destination     = "local/slo.yml"
        change_mode     = "signal"
        change_signal   = "SIGHUP"
        left_delimiter  = "[["
        right_delimiter = "]]"
        data            = file(var.rules)
      }

      resources {
        cpu    = 500
        memory = 512
      }
    }
  }
}

locals {
  args = [
    "--config.file=${NOMAD_TASK_DIR}/prometheus.yml", "--storage.tsdb.path=${meta.wavry_data}/prometheus",
    "--storage.tsdb.retention.time=${var.retention}", "--web.listen-address=${NOMAD_ADDR_http}",
  ]
}
