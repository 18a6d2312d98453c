# KeepMQ. `make run` starts it, `make test` proves it; `make help` lists the rest.

GO      ?= go
DATA    ?= data
TIME    ?= 30s
SOAK    ?= 2m
export CGO_ENABLED ?= 0

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.PHONY: build
build: ## build bin/keepmq
	@$(GO) build -trimpath -buildvcs=auto -ldflags '-s -w' -o bin/keepmq ./cmd/keepmq

.PHONY: run
run: build ## start a server, with this machine as its first edge device
	@./bin/keepmq serve --data $(DATA) --edge

# The packages whose tests run on each of the stores there are.
ON_STORES = $(shell grep -rl 'dbtest\.Main' --include='*_test.go' internal | xargs -n 1 dirname | sort -u | sed 's|^|./|')

.PHONY: test
test: build ## install what the tests need, then run all of them
	@scripts/setup-test
	@scripts/check-format
	CGO_ENABLED=1 $(GO) vet -race ./...
	KEEPMQ_TEST_STORE=PostgreSQL CGO_ENABLED=1 $(GO) test -race -timeout 20m ./...
	KEEPMQ_TEST_STORE=SQLite $(GO) test -timeout 20m $(ON_STORES) # not with -race, which makes SQLite, in Go, very slow
	$(GO) test -run Allocate ./internal/broker ./internal/engine/embedded # not with -race, which allocates

.PHONY: lint
lint: ## staticcheck, golangci-lint and govulncheck
	@scripts/lint

.PHONY: fuzz
fuzz: ## run every fuzz target for TIME each (default 30s)
	@scripts/fuzz $(TIME)

.PHONY: soak
soak: ## load the server with 10,000 clients while others attack it
	$(GO) test ./test/soak -v -timeout 60m -soak.clients 10000 -soak.rate 1000 -soak.phase $(SOAK)

.PHONY: bench
bench: build ## measure beside Mosquitto on this machine, and print ratios
	@scripts/setup-bench
	$(GO) run ./bench

.PHONY: clean
clean: ## remove what was built; data folders stay
	rm -rf bin test/clients/node_modules
