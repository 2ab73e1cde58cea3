# A fresh Debian has no make: apt-get install make. `make test ARGS="contract::queue"` passes
# arguments on, as the other targets do.

.PHONY: demo test lint bench bench-accept bench-fallthrough bench-gateway bench-shape clean compiler redis nginx sdk

demo: compiler
	cargo run --release --quiet -- demo $(ARGS)

test: compiler redis sdk
	cargo test --locked $(ARGS)

lint: compiler
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings
	RUSTDOCFLAGS=-Dwarnings cargo doc --no-deps --document-private-items --locked

bench: bench-accept bench-gateway

bench-accept: compiler redis
	cargo bench --locked --bench accept -- $(ARGS)

# Beside LiteLLM and Portkey, which it installs below `target`; needs Python with venv, Node and npm.
bench-gateway: compiler redis nginx
	cargo bench --locked --bench gateway -- $(ARGS)

# Half an hour; `ARGS="--help"` tells how to run a part.
bench-shape: compiler redis
	cargo bench --locked --bench shape -- $(ARGS)

# From one provider's 429 to the next provider's request.
bench-fallthrough: compiler redis
	cargo bench --locked --bench fallthrough -- $(ARGS)

clean:
	cargo clean

# Installs Debian packages, or says in one line what is missing.
define install
{ sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
  if ! command -v apt-get >/dev/null || ! command -v $${sudo:-sh} >/dev/null; then \
    echo "Missing here: $(1) (Debian's names). Install and try again." >&2; exit 1; \
  fi; \
  $$sudo apt-get update -qq && \
  $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(1) >/dev/null; }
endef

compiler:
	@command -v cc >/dev/null || $(call install,gcc libc6-dev)

nginx:
	@command -v nginx >/dev/null || test -x /usr/sbin/nginx || { $(call install,nginx-light) && \
	{ $$sudo systemctl disable --now nginx || { $$sudo service nginx stop; \
	  $$sudo update-rc.d nginx disable; }; true; } >/dev/null 2>&1; }

# The service that comes with the package is not left running: tests start their own servers.
redis:
	@command -v redis-server >/dev/null || { $(call install,redis-server) && \
	{ $$sudo systemctl disable --now redis-server || \
	  { $$sudo service redis-server stop; $$sudo update-rc.d redis-server disable; }; \
	  true; } >/dev/null 2>&1; }

# OpenAI's and Anthropic's own SDKs, as tests/sdk locks them: a test speaks to the service with them.
sdk: target/sdk/python/done target/sdk/node/done

target/sdk/python/done: tests/sdk/python/requirements.txt
	@python3 -c 'import ensurepip, venv' 2>/dev/null || $(call install,python3 python3-venv)
	@rm -rf $(@D) && python3 -m venv $(@D)
	@$(@D)/bin/pip install --quiet --disable-pip-version-check --require-hashes \
	  --only-binary :all: --requirement $<
	@touch $@

target/sdk/node/done: tests/sdk/node/package-lock.json
	@command -v node >/dev/null && command -v npm >/dev/null || $(call install,nodejs npm)
	@rm -rf $(@D) && mkdir -p $(@D) && cp tests/sdk/node/*.json $(@D)
	@cd $(@D) && npm ci --silent --no-audit --no-fund --ignore-scripts
	@touch $@

# What is tested inside n8n, Zapier and Make: test-platforms and its parts.
include tests/platforms/platforms.mk
