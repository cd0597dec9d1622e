# Prometheus that finds every process of the fleet in Consul. Skip it where there is one already, and take over its scrape configuration.

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
  default     = "/usr/local/bin/prometheus"
}

variable "consul" {
  type    = string
  default = "127.0.0.1:8500"
}

variable "retention" {
  type    = string
  default = "15d"
}

job "wavry-prometheus" {
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
        static = 9090
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

      # Labels come from closed sets: role, node, region. Sessions and people are never labels.
      template {
        destination   = "local/prometheus.yml"
        change_mode   = "signal"
        change_signal = "SIGHUP"
        data          = <<-EOT
          global:
            scrape_interval: 5s
          scrape_configs:
            - job_name: wavry
              consul_sd_configs:
                - server: ${var.consul}
                  token: {{ env "CONSUL_HTTP_TOKEN" }}
                  services: [wavry-relay, wavry-host, wavry-gateway]
              relabel_configs:
                - source_labels: [__meta_consul_service]
                  target_label: role
                - source_labels: [__meta_consul_node]
                  target_label: node
                - source_labels: [__meta_consul_service_metadata_region]
                  target_label: region
                # Gateways say where operators look; the others serve metrics where Consul's check goes.
                - source_labels: [__meta_consul_service_metadata_ops]
                  regex: (.+)
                  target_label: __address__
            - job_name: wavry-master
              scheme: https
              tls_config:
                insecure_skip_verify: true # the certificate names a role, not an address
              consul_sd_configs:
                - server: ${var.consul}
                  token: {{ env "CONSUL_HTTP_TOKEN" }}
                  services: [wavry-master]
        EOT
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
