package main

import "github.com/hashicorp/cli"

// commands is the whole command table, sorted by name. Each role's commands live in a file of their own.
func commands(env *environment) map[string]cli.CommandFactory {
	_ = env
	return map[string]cli.CommandFactory{}
}
