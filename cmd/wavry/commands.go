package main

import (
	"maps"

	"github.com/hashicorp/cli"
)

// commands is the whole command table. Each role's commands live in a file of their own.
func commands(env *environment) map[string]cli.CommandFactory {
	all := map[string]cli.CommandFactory{}
	for _, role := range []func(*environment) map[string]cli.CommandFactory{
		desktopCommands, devCommands,
		gatewayCommands,
		hostCommands, doctorCommands,
		masterCommands, operatorCommands, relayCommands,
		completionCommands,
	} {
		maps.Copy(all, role(env))
	}
	addGroups(all)
	return all
}
