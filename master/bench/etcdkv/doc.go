// Package etcdkv is the part of etcd's gRPC API that the benchmark of the master needs.
package etcdkv

//go:generate protoc -I . --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative kv.proto
