// Package pluginpb is generated from plugin.proto, the control protocol between host runtime and plugins.
package pluginpb

//go:generate protoc --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative plugin.proto
