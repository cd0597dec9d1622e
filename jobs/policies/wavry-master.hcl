# The masters find each other and follow the health of relays and hosts.
service "wavry-master" {
  policy = "write"
}
service "wavry-relay" {
  policy = "read"
}
service "wavry-host" {
  policy = "read"
}
# Instances are listed with their nodes, and only with nodes that may be read.
node_prefix "" {
  policy = "read"
}
