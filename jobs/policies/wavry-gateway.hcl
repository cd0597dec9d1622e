# A gateway registers itself and finds the masters.
service "wavry-gateway" {
  policy = "write"
}
service "wavry-master" {
  policy = "read"
}
# Instances are listed with their nodes, and only with nodes that may be read.
node_prefix "" {
  policy = "read"
}
