# The verbs of this project; `make help` lists them. They need Rust, a C compiler and GNU make, and
# `make check` and `make man` need mandoc. Where python3 has pip, the tests install an S3 server below
# target/ and try buckets on it.

CARGO  ?= cargo
PREFIX ?= /usr/local
TARGET := $(or $(CARGO_TARGET_DIR),target)

# What `torture` and `demo` try is `release`, the program as it is installed. CI gives `dev`, which
# the tests have built already and which stops at an overflow or a failed debug assertion.
PROFILE ?= release
BIN     := $(TARGET)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))

MINUTES  ?=
SEED     ?=
SCENARIO ?=
QUICK    ?=

PAGES := man/bakelite.1 man/bakelite.5

.PHONY: all demo test check torture replay saboteurs matrix bench fmt man install clean help programs

all: ## build the program: target/release/bakelite
	$(CARGO) build --locked --release --package bakelite

demo: programs ## a live database, a killed daemon, a restore, and the proof that it is right
	$(BIN)/torture demo

# The tests that need a real S3 server.
SERVER := $(if $(shell python3 -m pip --version 2>/dev/null),--features bakelite/s3-server)

test: ## all tests
	@$(if $(SERVER),:,echo "python3 has no pip: without the tests on a real S3 server" >&2)
	$(CARGO) test --locked --workspace $(SERVER)

check: ## what CI runs: format, lints, man pages, then all tests
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets --all-features -- --deny warnings
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory test

torture: programs ## faults, kills and an oracle [MINUTES=] [SEED=] [SCENARIO=]
	$(BIN)/torture run $(SCENARIO) $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES)) \
		$(LEAST)

replay: programs ## one failure again: SCENARIO= SEED=
	@test -n "$(SCENARIO)" -a -n "$(SEED)" || \
		{ echo "usage: make replay SCENARIO=kill-daemon SEED=1234" >&2; exit 2; }
	$(BIN)/torture run $(SCENARIO) --seed $(SEED)

# A build of their own: nothing of it is ever in another one.
saboteurs: ## wrong programs, each to be caught by the harness [NAME=]
	$(CARGO) build --locked --workspace --profile sabotage --features bakelite/sabotage
	$(TARGET)/sabotage/torture saboteurs $(if $(NAME),$(NAME),--record)

matrix: programs ## write torture/CORRECTNESS.md, and the README's figures, from the last torture
	$(BIN)/torture matrix

bench: ## figures beside their bounds, as ratios of one run [QUICK=1]
	$(CARGO) build --locked --release --workspace
	$(TARGET)/release/torture bench $(if $(QUICK),--quick)

fmt: ## format the code
	$(CARGO) fmt --all

man: lint ## lint the man pages and show them
	@for page in $(PAGES); do mandoc -T utf8 $$page; done

install: all ## install the program and its man pages [PREFIX=] [DESTDIR=]
	install -D -m 755 $(TARGET)/release/bakelite $(DESTDIR)$(PREFIX)/bin/bakelite
	install -D -m 644 man/bakelite.1 $(DESTDIR)$(PREFIX)/share/man/man1/bakelite.1
	install -D -m 644 man/bakelite.5 $(DESTDIR)$(PREFIX)/share/man/man5/bakelite.5

clean: ## remove what was built
	$(CARGO) clean

help: ## this list
	@sed -n 's/^\([a-z]*\):[^#]*## /\1\t/p' Makefile | expand -t 10

# Both at once: the harness tries the program that lies beside it.
programs:
	$(CARGO) build --locked --workspace --profile $(PROFILE)

.PHONY: lint
lint:
	@command -v mandoc >/dev/null || \
		{ echo "mandoc: not there, so the man pages go unchecked; run: apt-get install mandoc" >&2; exit 1; }
	mandoc -T lint -W warning $(PAGES)
