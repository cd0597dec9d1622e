# Prometheus finds what it scrapes.
service_prefix "wavry-" {
  policy = "read"
}
# Instances are listed with their nodes, and only with nodes that may be read.
node_prefix "" {
  policy = "read"
}
