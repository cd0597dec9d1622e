# A relay registers itself and finds the masters.
service "wavry-relay" {
  policy = "write"
}
service "wavry-master" {
  policy = "read"
}
# Instances are listed with their nodes, and only with nodes that may be read.
node_prefix "" {
  policy = "read"
}
# Its own agent's name, for round trips by network coordinates.
agent_prefix "" {
  policy = "read"
}
