# PostgreSQL for the gateways of an example or test fleet: one server, no replica. A real fleet uses the database that its operators
# already care for, and names it in the gateway's dsn.
#
# Nomad Variable nomad/jobs/wavry-postgres holds: password.

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
  default = "raw_exec"
  validation {
    condition     = contains(["raw_exec", "docker"], var.driver)
    error_message = "The driver must be raw_exec (Debian's PostgreSQL) or docker."
  }
}

variable "image" {
  type    = string
  default = "postgres:17"
}

variable "port" {
  type    = number
  default = 5432
}

variable "user" {
  type        = string
  description = "who runs it when the task runs as root, which PostgreSQL refuses"
  default     = "postgres"
}

job "wavry-postgres" {
  namespace   = var.namespace
  datacenters = var.datacenters
  type        = "service"

  # The one node that keeps the data.
  constraint {
    attribute = "${meta.wavry_postgres}"
    value     = "true"
  }

  group "postgres" {
    network {
      mode = "host"
      port "sql" {
        static = var.port
      }
    }

    service {
      name     = "wavry-postgres"
      provider = "nomad"
      port     = "sql"
      check {
        type     = "tcp"
        interval = "5s"
        timeout  = "2s"
      }
    }

    task "postgres" {
      driver = var.driver

      dynamic "config" {
        for_each = var.driver == "docker" ? [] : [1]
        content {
          command = "/bin/bash"
          args    = ["${NOMAD_TASK_DIR}/run.sh"]
        }
      }
      dynamic "config" {
        for_each = var.driver == "docker" ? [1] : []
        content {
          image        = var.image
          args         = ["-p", "${NOMAD_PORT_sql}", "-c", "listen_addresses=${NOMAD_IP_sql}"]
          network_mode = "host"
          volumes      = ["${meta.wavry_data}/postgres:/var/lib/postgresql/data"]
        }
      }

      # SIGINT is PostgreSQL's fast shutdown: it ends connections and writes everything.
      kill_signal  = "SIGINT"
      kill_timeout = "30s"

      env {
        DATA          = "${meta.wavry_data}/postgres"
        POSTGRES_USER = "wavry" # read by the image
        OWNER         = var.user
      }

      template {
        destination = "secrets/postgres.env"
        env         = true
        perms       = "0400"
        data        = <<-EOT
          {{ with nomadVar "nomad/jobs/wavry-postgres" }}POSTGRES_PASSWORD={{ .password }}{{ end }}
        EOT
      }

      # raw_exec: a cluster of its own at the first start, then the server in the foreground.
      template {
        destination     = "local/run.sh"
        left_delimiter  = "[["
        right_delimiter = "]]"
        data            = <<-EOT
          set -euo pipefail
          umask 077
          bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
          as=()
          if [ "$(id -u)" = 0 ]; then
            as=(setpriv --reuid="$(id -u "$OWNER")" --regid="$(id -g "$OWNER")" --clear-groups)
            install -d -m 0700 -o "$OWNER" -g "$(id -g "$OWNER")" "$DATA"
          fi
          cd /
          if [ ! -s "$DATA/PG_VERSION" ]; then
            password=$(mktemp)
            trap 'rm -f "$password"' EXIT
            echo "$POSTGRES_PASSWORD" >"$password"
            [ "$(id -u)" != 0 ] || chown "$OWNER" "$password"
            "$${as[@]}" "$bin/initdb" -D "$DATA" -U wavry -E UTF8 -A scram-sha-256 --pwfile="$password"
            rm -f "$password"
          fi
          exec "$${as[@]}" "$bin/postgres" -D "$DATA" -p "$NOMAD_PORT_sql" -c "listen_addresses=$NOMAD_IP_sql" -c unix_socket_directories=
        EOT
      }

      resources {
        cpu    = 200
        memory = 256
      }
    }
  }
}
