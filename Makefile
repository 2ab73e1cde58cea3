# A fresh Debian has no make: apt-get install make. `make test ARGS="contract::queue"` passes
# arguments on, as the other targets do.

.PHONY: demo test lint bench clean tools

demo:
	cargo run --release --quiet -- demo $(ARGS)

test: tools
	cargo test --locked $(ARGS)

lint: tools
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings
	RUSTDOCFLAGS=-Dwarnings cargo doc --no-deps --document-private-items --locked

bench: tools
	cargo bench --locked --bench accept -- $(ARGS)

clean:
	cargo clean

# Installs what compiling and testing need and the machine lacks. A redis-server that comes with
# this is kept from running as a service: the tests start their own.
tools:
	@packages=; sudo=; \
	command -v cc >/dev/null || packages="gcc libc6-dev"; \
	command -v redis-server >/dev/null || packages="$$packages redis-server"; \
	[ -n "$$packages" ] || exit 0; \
	[ "$$(id -u)" = 0 ] || sudo=sudo; \
	if ! command -v apt-get >/dev/null || ! command -v $${sudo:-sh} >/dev/null; then \
		echo "Missing here:" $$packages "(Debian's names). Install them and try again." >&2; exit 1; \
	fi; \
	$$sudo apt-get update -qq && \
	$$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $$packages >/dev/null || exit 1; \
	case $$packages in *redis-server*) \
		$$sudo systemctl disable --now redis-server || \
		{ $$sudo service redis-server stop; $$sudo update-rc.d redis-server disable; } ;; \
	esac >/dev/null 2>&1 || true
