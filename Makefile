# A fresh Debian has no make: apt-get install make. `make test ARGS="contract::queue"` passes
# arguments on, as the other targets do.

.PHONY: demo test lint bench bench-accept bench-gateway bench-shape clean compiler redis nginx

demo: compiler
	cargo run --release --quiet -- demo $(ARGS)

test: compiler redis
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
