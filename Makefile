# Wavry Fleet. `make` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
PLUGINS := capture-test capture-wayland encode-software encode-vaapi encode-nvenc
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
# Integration tests are packages that have the tag. They start compositors, servers and browsers: one package at a time.
INTEGRATION = $$(git grep -lE '^//go:build .*integration' -- '*_test.go' | xargs -n 1 dirname | sort -u | sed 's|^|./|')

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: dev
dev: packages-dev build ## start the whole system with a real desktop and print the sign-in link
	@bin/wavry dev $(ARGS)

.PHONY: fleet
fleet: packages-test build ## start a real fleet with Consul and Nomad on this machine and print the sign-in link
	@go build -o bin/fleet ./test/fleet/cmd
	@bin/fleet -engines "$$(scripts/engines consul nomad)" $(ARGS)

.PHONY: test-fleet
test-fleet: packages-test build ## run the jobs on real Consul and Nomad, with faults
	PATH=$$(scripts/engines consul nomad):$$PATH go test -tags integration -count=1 -timeout 12m -v ./test/fleet

.PHONY: test
test: packages-test build ## install what is missing, run all tests, with real compositors, servers and a browser
	scripts/gotest ./...
	PATH=$$(scripts/engines consul nomad):$$PATH scripts/gotest -tags integration -p 1 -count=1 -timeout 25m $(INTEGRATION)

.PHONY: build
build: packages-build ## build bin/wavry and the plugins
	@mkdir -p bin
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/wavry ./cmd/wavry
	go build -trimpath -o bin/ $(addprefix ./plugins/,$(PLUGINS))
	@cd bin && for p in $(PLUGINS); do mv -f $$p wavry-$$p; done

.PHONY: race
race: packages-build ## run the unit tests under the race detector
	WAVRY_CI_RACE=1 scripts/gotest -race -shuffle on ./...

.PHONY: lint
lint: packages-build ## gofmt, go vet, staticcheck, known vulnerabilities, module files, web sources
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); echo 'run gofmt -w on these'; exit 1; }
	go vet ./...
	go vet -tags integration ./...
	scripts/tool $(STATICCHECK) ./...
	scripts/vulncheck
	go mod verify >/dev/null
	scripts/check-web

.PHONY: sbom
sbom: build ## write a bill of materials (CycloneDX) beside each binary
	scripts/sbom $(VERSION)

FUZZTIME ?= 10s
SOAK_STARTS ?= 1000
.PHONY: soak-root
soak-root: packages-test build ## let a desktop's user race root over SOAK_STARTS starts
	WAVRY_RACER_STARTS=$(SOAK_STARTS) go test -tags integration -count=1 -timeout 24h -run TestRacerWinsNoStart -v ./test/integration

.PHONY: fuzz
fuzz: packages-build ## run every fuzz target for FUZZTIME
	scripts/fuzz $(FUZZTIME)

.PHONY: bench
bench: packages-test build ## measure the picture path: stages, input-to-present, against gst-launch
	scripts/bench

.PHONY: bench-legs
bench-legs: ## explore who may move a viewer's leg at a relay, and 1,000 pauses with a thief
	WAVRY_LEGS_DEPTH=6 WAVRY_LEGS_WALKS=100000 WAVRY_LEGS_PAUSES=1000 go test -count 1 -timeout 30m -run 'TestNobodyTakesALeg|TestPauses' -v ./relay

.PHONY: bench-relay
bench-relay: packages-test ## measure the relay against coturn and a C forwarder
	go run ./relay/bench

.PHONY: bench-master
bench-master: packages-test ## measure the master against etcd
	go run ./master/bench

.PHONY: bench-box
bench-box: packages-test build ## measure what the plugins' box costs an encoder
	scripts/boxcost

.PHONY: web
web: ## rebuild web/dist from web/src
	npm --prefix web ci --silent
	npm --prefix web run --silent build

.PHONY: packages-build packages-dev packages-test
packages-build:
	@scripts/install build
packages-dev:
	@scripts/install build desktop
packages-test:
	@scripts/install build desktop gnome kde test
