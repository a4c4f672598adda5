# Everything here is also what CI runs; see .ci/run.
GO      ?= go
LDFLAGS := -s -w -buildid=
BUILD   := CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags="$(LDFLAGS)"
LINT    := tools/bin/golangci-lint

.PHONY: build test check lint race fuzz-seeds fuzz vectors oracle azure vm mutations faults e2e reproducible bench generate clean

build: ## the release binary, static and reproducible
	$(BUILD) -o dist/cloister ./cmd/cloister

test: ## what README promises
	$(GO) test ./...

check: ## formatting, vet, lint
	@files=$$(gofmt -l .); test -z "$$files" || { echo "$$files"; echo 'run gofmt -w on these'; exit 1; }
	$(GO) vet ./...
	$(MAKE) lint

lint: $(LINT) ## golangci-lint, pinned in tools/go.mod
	$(LINT) run --allow-parallel-runners ./...

$(LINT): tools/go.mod
	cd tools && $(GO) build -o bin/golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint

race: ## all tests under the race detector
	$(GO) test -race -timeout 30m ./...

fuzz-seeds: ## every fuzz target on its seeds
	$(GO) test -run '^Fuzz' ./...

FUZZTIME ?= 20s
fuzz: ## every fuzz target for FUZZTIME
	@for pkg in $$($(GO) list ./...); do \
	  for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
	    echo "$$pkg $$target"; \
	    $(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$pkg || exit 1; \
	  done; done

vectors: ## recorded evidence of every TEE: expected, got, agree (needs ../shared)
	@$(GO) test -count=1 -run 'TestVectors$$' -v ./internal/cli | grep -v '^ *---\|^===\|^PASS'

ORACLE := $(CURDIR)/dist/oracle
oracle: ## compare with other verifiers that npm has (needs node and the network once)
	@mkdir -p $(ORACLE) && cp test/oracle/package.json test/oracle/verify.js $(ORACLE) && cd $(ORACLE) && npm install --silent --no-audit --no-fund
	CLOISTER_ORACLE=$(ORACLE) $(GO) test -count=1 -run Oracle ./tee/dcap

azure: ## Microsoft's own clients against a running platform (needs node, openssl, the network once)
	./test/azure/run

BOOTS ?= 20
vm: ## boot BOOTS machines under emulation: computed and measured; and what their host tampers with (Debian)
	CLOISTER_VM_BOOTS=$(BOOTS) ./test/vm/run

mutations: ## the long runs of tests that change every byte of evidence
	CLOISTER_ALL_MUTATIONS=1 $(GO) test -count=1 -timeout 20m -run 'Flip' ./tee/nitro ./tee/azure ./attest/refvalues

ROUNDS ?= 20
faults: ## kill every process at every point, ROUNDS times
	CLOISTER_FAULT_ROUNDS=$(ROUNDS) $(GO) test -timeout 60m -run 'TestKillAnything' ./internal/cli

e2e: ## the demo as an ordinary user, from the release binary
	./test/e2e/run

reproducible: ## the same bytes from two folders
	./test/reproducible

bench: ## ratios against a peer or a limit, in one run
	$(GO) run ./bench

generate: ## files that are made from others
	$(GO) generate ./...

clean:
	rm -rf dist tools/bin
