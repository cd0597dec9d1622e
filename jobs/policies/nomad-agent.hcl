# Nomad's own agents: they register themselves and read the catalog. Tasks do not use this token; each gets its own.
agent_prefix "" {
  policy = "read"
}
node_prefix "" {
  policy = "read"
}
service_prefix "" {
  policy = "read"
}
service "nomad" {
  policy = "write"
}
service "nomad-client" {
  policy = "write"
}
