VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
FUZZTIME ?= 10s

# What scripts/plugin.sh takes; the rest of its variables pass as they are.
export PLUGIN_NAME PLUGIN_DIR PROFILES CONFIG STATE RUN FORCE

.PHONY: help build plugin plugin-install plugin-remove demo demo-s3 test fuzz bench-proxy bench-s3 engine clean

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 17

build: ## build/valise, one static binary
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o build/valise ./cmd/valise

plugin: build ## build/plugin, the managed plugin for docker plugin create
	rootfs/make.sh build/plugin/rootfs build/valise
	install -m 644 config.json build/plugin/config.json

plugin-install: plugin ## install or replace it in the engine of DOCKER_HOST (see scripts/plugin.sh)
	scripts/plugin.sh install

plugin-remove: ## remove it; profiles and state stay
	scripts/plugin.sh remove

demo: ## show it all at work, in a minute, and clean up
	scripts/demo.sh

demo-s3: ## the same with homes on S3, handed over between two hosts
	scripts/demo-s3.sh

test: ## every test: unit, S3 mounts, then integration on Debian's engine and a current one
	@unformatted=$$(gofmt -l $$(git ls-files --cached --others --exclude-standard '*.go')); \
		test -z "$$unformatted" || { echo "gofmt: $$unformatted" >&2; exit 1; }
	go vet -tags 'integration vm' ./...
	scripts/s3.sh install tests
	CGO_ENABLED=1 go test -race ./...
	scripts/test.sh

fuzz: ## every fuzz target for FUZZTIME (10s)
	@set -e; for package in $$(go list ./...); do \
		for target in $$(go test -list '^Fuzz' $$package | grep '^Fuzz'); do \
			go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$package; \
		done; \
	done

bench-proxy: ## what the proxy costs: requests, latency, streaming
	scripts/bench-proxy.sh

bench-s3: ## what a profile on S3 costs, beside rclone and s3fs (over an hour)
	scripts/bench-s3.sh

engine: ## build a current Docker Engine in build/engine
	scripts/engine.sh install current

clean: ## remove build/
	rm -rf build
