# Tests of what people meet inside n8n, Zapier and Make, against the built service. All that they
# need is installed below `target`, from the npm registry.

.PHONY: test-platforms
test-platforms: test-make test-zapier test-n8n-package test-n8n

# SPILLWAY_BINARY names a binary that is built already.
BUILT = test -n "$$SPILLWAY_BINARY" || cargo build --locked --quiet --bin spillway

# A Node and npm of our own below `target`, whatever the system has: n8n and Zapier's tools want a
# newer one than Debian's. The registry's package also has the headers that native modules need.
NODE_VERSION = 24.21.0
NPM_VERSION = 11.19.1
NODE_BIN = $(CURDIR)/target/node/bin

.PHONY: node
node: target/node/done

target/node/done: tests/platforms/platforms.mk
	@command -v npm >/dev/null || $(call install,nodejs npm)
	@rm -rf $(@D) && mkdir -p $(NODE_BIN)
	@arch=$$(uname -m | sed 's/x86_64/x64/; s/aarch64/arm64/') && npm install --silent --no-audit \
	  --no-fund --prefix $(@D) node-linux-$$arch@$(NODE_VERSION) npm@$(NPM_VERSION) && \
	ln -s ../node_modules/node-linux-$$arch/bin/node $(NODE_BIN)/node
	@for tool in npm npx; do ln -s ../node_modules/npm/bin/$$tool-cli.js $(NODE_BIN)/$$tool; done
	@touch $@

# The Make app: its files, functions and scenarios, and its requests against the built service.
.PHONY: test-make
test-make: compiler node target/make-app/done
	@$(BUILT)
	$(NODE_BIN)/node --test $(ARGS) tests/make/*.test.ts

target/make-app/done: tests/make/package-lock.json target/node/done
	@rm -rf $(@D) && mkdir -p $(@D) && cp tests/make/package*.json $(@D)
	@cd $(@D) && PATH="$(NODE_BIN):$$PATH" npm ci --silent --no-audit --no-fund --ignore-scripts
	@touch $@

# The Zapier app: tests against the real service, then what Zapier's own tool checks without a login.
# A copy below `target` has its modules; SPILLWAY_BINARY names a binary that is built already.
ZAPIER = $(CURDIR)/target/zapier/zapier-app
ZAPIER_CLI = $(ZAPIER)/node_modules/.bin/zapier-platform

.PHONY: test-zapier
test-zapier: compiler target/zapier/done
	@$(BUILT)
	@find $(ZAPIER) -mindepth 1 -maxdepth 1 ! -name node_modules -exec rm -rf {} +
	@cp -R zapier-app/. $(ZAPIER)
	cd $(ZAPIER) && PATH=$(NODE_BIN):$$PATH npm test --silent
	@export PATH=$(NODE_BIN):$$PATH DISABLE_ZAPIER_ANALYTICS=1 && cd $(ZAPIER) && \
	$(ZAPIER_CLI) validate --without-style && cd ../push && rm -rf build && cp -R $(ZAPIER)/*.js $(ZAPIER)/.gitignore \
	  $(ZAPIER)/lib $(ZAPIER)/creates $(ZAPIER)/searches $(ZAPIER)/triggers . && \
	$(ZAPIER_CLI) build --disable-dependency-detection --skip-npm-install --skip-validation

# `push` is what goes to Zapier: the same without the tools.
target/zapier/done: zapier-app/package-lock.json | target/node/done
	@rm -rf $(@D) && mkdir -p $(ZAPIER) $(@D)/push && ln -s ../../tests $(@D)/tests
	@for part in zapier-app push; do cp zapier-app/package*.json $(@D)/$$part; done
	@export PATH=$(NODE_BIN):$$PATH && options="--loglevel=error --no-audit --no-fund --ignore-scripts" && \
	npm ci --prefix $(ZAPIER) $$options && npm ci --prefix $(@D)/push --omit=dev $$options
	@touch $@

# n8n's package, built with n8n's own tool in a workspace of its own below `target`: the package may
# not have the `overrides` that the tool needs. Its tests run against the built files.
.PHONY: n8n-package lint-n8n test-n8n-package

N8N_WORK = target/n8n-package
N8N_NODES = $(N8N_WORK)/n8n-nodes-spillway
N8N_PARTS = credentials icons nodes eslint.config.mjs LICENSE.md package.json README.md tsconfig.json
N8N_SOURCES = $(shell find $(addprefix n8n-nodes/,$(N8N_PARTS)) -type f)
N8N_LOG = $(CURDIR)/$(N8N_WORK)/log

n8n-package: $(N8N_WORK)/packed

lint-n8n: $(N8N_WORK)/linted

test-n8n-package: compiler $(N8N_WORK)/packed
	@$(BUILT)
	$(NODE_BIN)/node --test n8n-nodes/test/*.test.ts

$(N8N_WORK)/installed: target/node/done n8n-nodes/package.json $(wildcard n8n-nodes/scripts/workspace/*)
	@mkdir -p $(N8N_NODES)
	@cp n8n-nodes/scripts/workspace/*.json $(N8N_WORK)
	@cp n8n-nodes/package.json $(N8N_NODES)
	@cd $(N8N_WORK) && PATH="$(NODE_BIN):$$PATH" npm ci --silent --no-audit --no-fund \
	  --ignore-scripts --legacy-peer-deps
	@touch $@

$(N8N_WORK)/packed: $(N8N_WORK)/installed $(N8N_SOURCES)
	@rm -rf $(N8N_NODES) $(N8N_WORK)/*.tgz && mkdir -p $(N8N_NODES)
	@cd n8n-nodes && cp -r $(N8N_PARTS) ../$(N8N_NODES)
	@cd $(N8N_NODES) && PATH="$(NODE_BIN):$$PATH" && \
	  { npx n8n-node build >$(N8N_LOG) 2>&1 || { cat $(N8N_LOG); exit 1; }; } && \
	  npm pack --silent --ignore-scripts --pack-destination .. >$(N8N_LOG)
	@touch $@

# n8n's lint in its strict mode, then n8n's scan of what would be published.
$(N8N_WORK)/linted: $(N8N_WORK)/packed n8n-nodes/scripts/scan.mjs
	@cd $(N8N_NODES) && PATH="$(NODE_BIN):$$PATH" npx n8n-node lint
	@rm -rf $(N8N_WORK)/unpacked && mkdir $(N8N_WORK)/unpacked
	@tar -xzf $(N8N_WORK)/n8n-nodes-spillway-*.tgz -C $(N8N_WORK)/unpacked --strip-components=1
	@$(NODE_BIN)/node n8n-nodes/scripts/scan.mjs $(N8N_WORK) $(N8N_NODES) $(N8N_WORK)/unpacked
	@touch $@

# The real n8n below `target`, locked, for the tests of the n8n package. Its install scripts would
# fetch binaries from elsewhere, so they are not run: sqlite3 is compiled meanwhile, the other
# native modules come with binaries.
.PHONY: n8n browser test-n8n bench-n8n

n8n: target/n8n/done

NODE_GYP = $(CURDIR)/target/node/node_modules/npm/node_modules/node-gyp/bin/node-gyp.js
SQLITE_BINARY = node_modules/sqlite3/build/Release

target/n8n/done: tests/n8n/package-lock.json | target/node/done
	@command -v python3 >/dev/null && command -v g++ >/dev/null || $(call install,python3 g++)
	@rm -rf $(@D) && mkdir -p $(@D)/sqlite && cp tests/n8n/package*.json $(@D)
	@export PATH="$(NODE_BIN):$$PATH" && cd $(@D) && \
	npm="npm install --silent --legacy-peer-deps --ignore-scripts --no-audit --no-fund" && \
	version=$$(node -p "require('./package-lock.json').packages['node_modules/sqlite3'].version") && \
	{ (cd sqlite && echo '{}' >package.json && $$npm sqlite3@$$version && \
	   cd node_modules/sqlite3 && node "$(NODE_GYP)" rebuild --silent --release --jobs max \
	     --nodedir="$$(dirname "$$(dirname "$$(readlink -f "$(NODE_BIN)/node")")")" >build.log 2>&1 || \
	   { cat build.log >&2; exit 1; }) & \
	  sqlite=$$!; $$npm --no-save && wait $$sqlite; } && \
	mkdir -p $(SQLITE_BINARY) && mv sqlite/$(SQLITE_BINARY)/*.node $(SQLITE_BINARY) && rm -rf sqlite && \
	node -e 'require("sqlite3"); require("isolated-vm")'
	@touch $@

browser:
	@command -v chromium >/dev/null || $(call install,chromium)

# The package and the examples in the real n8n, with a browser. UPDATE=1 takes the screenshots anew.
# One file after the other: each starts an n8n of its own, which has half a gigabyte.
test-n8n: compiler redis n8n browser n8n-package
	@$(BUILT)
	$(NODE_BIN)/node --test --test-concurrency=1 $(ARGS) tests/n8n/*.test.ts

# 200 rows straight at a limited provider, and through Spillway: the table in n8n-nodes/README.md.
bench-n8n: compiler n8n n8n-package
	@$(BUILT)
	$(NODE_BIN)/node tests/n8n/bench.ts
