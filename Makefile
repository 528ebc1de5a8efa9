# Evergrant. `make` alone lists the targets.
GO ?= go
BIN := bin/evergrant

.PHONY: help run demo-once build test test-postgres fuzz growth torture scale scale-keeper import-full bench drivers lint fmt fmt-check vet cover need-test clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: build ## build, then a tour on real traffic, then stay up on http://127.0.0.1:8080
	@$(BIN) demo

demo-once: build ## the tour once through; exit status 0 only if every step came out as promised
	@$(BIN) demo --once --listen 127.0.0.1:0

build: ## build bin/evergrant
	@CGO_ENABLED=0 $(GO) build -o $(BIN) ./cmd/evergrant

need-test:
	@scripts/need gcc:gcc gcc:libc6-dev curl:curl chromium:chromium postgres:postgresql pgbouncer:pgbouncer mariadbd:mariadb-server-core mariadb-install-db:mariadb-server-core

# SQLite is C that was translated to Go. It works in memory of its own, which the
# race detector does not watch: instrumented, it takes three times as long and shows
# nothing of ours. All else stays instrumented, the C library under it as well.
RACE := -race -gcflags='modernc.org/sqlite/lib=-race=false'
# Packages that measure go to a disk; all go one at a time, since they kill and wait.
ALONE := /(bench|store)(/|$$)

test: need-test ## every test, with the race detector; then again on PostgreSQL what runs on any database
	packages=$$($(GO) list ./...) && CGO_ENABLED=1 scripts/in-memory $(GO) test $(RACE) -timeout 45m -p 1 $$(echo "$$packages" | grep -Ev '$(ALONE)')
	packages=$$($(GO) list ./...) && CGO_ENABLED=1 $(GO) test $(RACE) -timeout 45m -p 1 $$(echo "$$packages" | grep -E '$(ALONE)')
	$(MAKE) test-postgres
	cd bench/peers && CGO_ENABLED=0 $(GO) test ./...

# At most four tests at once: their server takes 200 connections.
test-postgres: need-test ## the suites that run on any database, on PostgreSQL
	EVERGRANT_TEST_DATABASE=postgres EVERGRANT_KILLS=$${EVERGRANT_KILLS:-60} scripts/in-memory $(GO) test -timeout 45m -p 2 -parallel 4 ./keeper ./issuer ./internal/web ./secret ./internal/hook .

fuzz: ## every fuzz target for FUZZTIME (60s) each
	@FUZZTIME=$${FUZZTIME:-60s} GO=$(GO) scripts/fuzz

growth: ## 1,000 grants refreshed 1,000 times each: rows, bytes and writes
	EVERGRANT_GROWTH=1000x1000 $(GO) test -count=1 -v -timeout 60m -run '^TestGrowth$$' ./store/sqlite

torture: ## 5,000 kills of a server, and of a keeper, between any two steps
	EVERGRANT_KILLS=5000 $(GO) test -count=1 -v -timeout 180m -p 1 -run '^TestKill' ./store/sqlite ./store/postgres ./keeper

scale: ## refreshes among SCALE_GRANTS (10,000,000) in PostgreSQL beside those among 10,000
	@scripts/need postgres:postgresql
	$(GO) run ./bench/scale -large $${SCALE_GRANTS:-10000000}

scale-keeper: ## 100,000 connections kept fresh for SCALE_MINUTES (3) of a 20-minute lifetime
	EVERGRANT_SCALE=100000 EVERGRANT_SCALE_MINUTES=$${SCALE_MINUTES:-3} $(GO) test -count=1 -v -timeout 60m -run '^TestScale$$' ./keeper

import-full: need-test ## imports of 100,000 users, 1,000 clients and 500,000 refresh tokens from SQLite, MariaDB and PostgreSQL
	EVERGRANT_IMPORT=full $(GO) test -count=1 -v -timeout 60m -run '^TestImportSize' ./cmd/evergrant

bench: build ## the benchmark table, side by side with peers, in one run
	@scripts/need postgres:postgresql
	$(GO) run ./bench

drivers: ## the benchmark of SQLite drivers and table layouts
	cd bench/drivers && $(GO) run .

lint: ## staticcheck
	$(GO) tool staticcheck ./...

vet: ## go vet
	$(GO) vet ./...

fmt: ## format the code
	gofmt -w $$(git ls-files '*.go')

fmt-check:
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$unformatted" || { echo "run make fmt; it would change:"; echo "$$unformatted"; exit 1; }

cover: ## coverage of the packages that decide; at least 85 % each
	@CGO_ENABLED=0 $(GO) test -cover ./issuer ./oauth ./secret ./provider ./keeper ./store/sqlite ./store/postgres | tee coverage.out
	@awk '/coverage:/ {for (i = 1; i < NF; i++) if ($$i == "coverage:" && $$(i+1)+0 < 85) {print $$2 " is below 85 %"; bad = 1}} END {exit bad}' coverage.out

clean: ## remove what was built
	rm -rf bin coverage.out
