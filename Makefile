# What to type: `make` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help deps build images up down test test-unit test-vm test-e2e lint arch bench check clean

COMPONENTS := apiserver scheduler controller-manager kubelet proxy ctl
MODULES := internal $(COMPONENTS) hack
PACKAGES := $(addprefix ./,$(addsuffix /...,$(MODULES)))
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X github.com/skeg-dev/skeg/internal/component.Build=$(VERSION)
# The same flags as the tests', so that both share one build cache.
GOFLAGS_STATIC := -buildvcs=false

help: ## Show the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

deps: ## Install what building and testing need (Debian packages), if missing
	@hack/deps

build: deps ## Build the static binaries into bin/
	@mkdir -p bin
	@for c in $(COMPONENTS); do echo "building bin/$$c"; CGO_ENABLED=0 go build $(GOFLAGS_STATIC) -ldflags '$(LDFLAGS)' -o bin/$$c ./$$c || exit 1; done
	@echo "building bin/kubelet-shim"; CGO_ENABLED=1 go build $(GOFLAGS_STATIC) -tags "seccomp netgo osusergo" -ldflags '$(LDFLAGS) -extldflags "-static"' -o bin/kubelet-shim ./kubelet/shim

images: bin/demo-image.tar ## Build the demo's image into bin/
bin/demo-image.tar: $(wildcard hack/demo/*.go)
	@mkdir -p bin
	@echo "building $@"; go run ./hack/images -o bin demo

up: build images ## Build, make a cluster on this machine, run the demo on it
	@bin/ctl up $(ARGS)

down: ## Remove the cluster on this machine
	@bin/ctl down

test: build test-unit test-vm test-e2e ## Run all tests, as root
test-unit: deps ## Unit and integration tests of all modules
	go vet $(PACKAGES)
	go test -timeout 10m $(PACKAGES:./hack/...=) ./hack/arch/... ./hack/images/... ./hack/integration/...
test-vm: deps ## Tests in a guest kernel: cgroup v2, IPVS
	go test -timeout 20m -count=1 -v ./hack/vm/...
test-e2e: build images ## End-to-end tests on a cluster of two nodes
	go test -timeout 15m -count=1 -v ./hack/e2e/...

arch: ## Check import rules, registries and hygiene
	go test -count=1 ./hack/arch/...

lint: bin/golangci-lint ## Run golangci-lint with .golangci.yml
	@for m in $(MODULES); do echo "lint $$m"; (cd $$m && ../bin/golangci-lint run --config ../.golangci.yml ./...) || exit 1; done
bin/golangci-lint: hack/tools/go.mod
	@mkdir -p bin; echo "building $@"; cd hack/tools && GOWORK=off go build -o ../../$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

bench: ## Run the benchmarks beside the code
	go test -run '^$$' -bench . -benchmem $(PACKAGES)

check: arch test ## What CI runs

clean: ## Remove what was built
	rm -rf bin
