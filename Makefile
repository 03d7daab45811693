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
URL      ?=
PARSER   ?=
QUICK    ?=
FIGURE   ?=
FILE     ?=

PAGES := man/bakelite.1 man/bakelite.5 man/bakelite-recovery.7

.PHONY: all dist chroot demo test check torture replay matrix bench fmt man install clean help
.PHONY: programs lint saboteurs points fuzz soak mutants suite full

all: ## build the program: target/release/bakelite
	$(CARGO) build --locked --release --package bakelite

# What `dist` makes the program for. musl looks names up by itself; a static glibc loads libraries of
# the system for that, which have to be of its own version. Where the target is not to be had,
# TRIPLE=x86_64-unknown-linux-gnu makes a program for machines like this one.
TRIPLE  ?= $(shell uname -m)-unknown-linux-musl
# The C code has encryption for AVX-512 besides that for AVX: 0.6 MiB, for a stream that is slower.
SMALLER := AWS_LC_SYS_CFLAGS=-DMY_ASSEMBLER_IS_TOO_OLD_FOR_512AVX

# For another machine: the prefix of its compiler, such as aarch64-linux-gnu. That is made for glibc, whose
# headers name functions that musl has not got; so it reads musl's, where Debian's musl-dev has them.
CROSS ?=
ifneq ($(CROSS),)
WORDS := $(subst -,_,$(TRIPLE))
MUSL  ?= /usr/include/$(firstword $(subst -, ,$(TRIPLE)))-linux-musl
export CC_$(WORDS) := $(CROSS)-gcc -nostdinc -isystem $(MUSL) \
	-isystem $(shell $(CROSS)-gcc -print-file-name=include)
export CARGO_TARGET_$(shell echo $(WORDS) | tr a-z A-Z)_LINKER := $(CROSS)-gcc
endif

dist: ## one static program that needs nothing else: target/dist/bakelite [TRIPLE=] [CROSS=]
	$(SMALLER) $(CARGO) build --locked --release --package bakelite --target $(TRIPLE) \
		--config 'target.$(TRIPLE).rustflags = ["-C", "target-feature=+crt-static"]'
	install -D -m 755 $(TARGET)/$(TRIPLE)/release/bakelite $(TARGET)/dist/bakelite

chroot: dist ## what `dist` has made, tried where there is nothing else
	$(CARGO) test --locked --workspace $(SERVER) --test dist

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

torture: programs ## faults, kills and an oracle [MINUTES=] [SEED=] [SCENARIO=] [JOBS=]
	$(BIN)/torture run $(SCENARIO) $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES)) \
		$(if $(JOBS),--jobs $(JOBS)) $(LEAST)

suite: programs ## your own storage: what it has to keep, and backups under kills: URL= [MINUTES=] [SEED=]
	@test -n "$(URL)" || { echo "usage: make suite URL='s3://BUCKET/PREFIX?endpoint=...'" >&2; exit 2; }
	$(BIN)/torture suite '$(URL)' $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES))

replay: programs ## one failure again: SCENARIO= SEED=
	@test -n "$(SCENARIO)" -a -n "$(SEED)" || \
		{ echo "usage: make replay SCENARIO=kill-daemon SEED=1234" >&2; exit 2; }
	$(BIN)/torture run $(SCENARIO) --seed $(SEED)

# A build of their own: nothing of it is ever in another one.
saboteurs: ## wrong programs, each to be caught by the harness [NAME=]
	$(CARGO) build --locked --workspace --profile sabotage --features bakelite/sabotage
	$(TARGET)/sabotage/torture saboteurs $(if $(NAME),$(NAME),--record)

points: ## every crash point and a year, at full measure: 25 minutes
	$(CARGO) build --locked --package torture
	$(TARGET)/debug/torture points --record

# A build of their own as well: it is fast, and stops at an overflow.
fuzz: ## wrong inputs for every parser, and WALs beside SQLite [PARSER=] [MINUTES=] [SEED=]
	$(CARGO) build --locked --package torture --profile fuzz
	$(TARGET)/fuzz/torture fuzz $(PARSER) --minutes $(or $(MINUTES),6) $(if $(SEED),--seed $(SEED)) \
		$(if $(PARSER)$(MINUTES),,--record)

soak: programs ## daemon and writers for MINUTES=, random faults, restores judged all the while
	$(BIN)/torture soak $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED)) --record

mutants: ## core files changed in one place at a time, each to be noticed by a test [FILE=]
	$(CARGO) build --locked --package torture
	$(TARGET)/debug/torture mutants $(FILE)

# On two quiet cores about 75 minutes, builds aside.
full: ## all campaigns but soak and mutants at full measure, and their figures on the page
	$(MAKE) --no-print-directory points
	$(MAKE) --no-print-directory fuzz
	$(MAKE) --no-print-directory saboteurs
	$(MAKE) --no-print-directory torture MINUTES=$(or $(MINUTES),35) JOBS=$(or $(JOBS),7)
	$(BIN)/torture matrix --full

matrix: programs ## write torture/CORRECTNESS.md, and the README's figures, from the last torture
	$(BIN)/torture matrix

bench: ## figures beside their bounds, as ratios of one run [QUICK=1] [FIGURE=]
	$(CARGO) build --locked --release --workspace
	$(TARGET)/release/torture bench $(FIGURE) $(if $(QUICK),--quick)

fmt: ## format the code
	$(CARGO) fmt --all

man: lint ## lint the man pages and show them
	@for page in $(PAGES); do mandoc -T utf8 $$page; done

# A program that is built already, such as `make dist` makes.
PROGRAM ?=
INTO    := $(DESTDIR)$(PREFIX)
SHARE   := $(INTO)/share

install: $(if $(PROGRAM),,all) ## program, pages, unit and completions [PREFIX=] [DESTDIR=] [PROGRAM=]
	install -D -m 755 $(or $(PROGRAM),$(TARGET)/release/bakelite) $(INTO)/bin/bakelite
	for page in $(PAGES); do \
		install -D -m 644 -t $(SHARE)/man/man$${page##*.} $$page || exit 1; done
	install -D -m 644 man/complete.bash $(SHARE)/bash-completion/completions/bakelite
	install -D -m 644 man/complete.zsh $(SHARE)/zsh/site-functions/_bakelite
	install -D -m 644 man/complete.fish $(SHARE)/fish/vendor_completions.d/bakelite.fish
	install -d $(INTO)/lib/systemd/system
	sed 's#/usr/local/#$(PREFIX)/#' man/bakelite.service >$(INTO)/lib/systemd/system/bakelite.service
	chmod 644 $(INTO)/lib/systemd/system/bakelite.service

clean: ## remove what was built
	$(CARGO) clean

help: ## this list
	@sed -n 's/^\([a-z]*\):[^#]*## /\1\t/p' Makefile | expand -t 10

# Both at once: the harness tries the program that lies beside it.
programs:
	$(CARGO) build --locked --workspace --profile $(PROFILE)

lint:
	@command -v mandoc >/dev/null || \
		{ echo "mandoc: not there, so the man pages go unchecked; run: apt-get install mandoc" >&2; exit 1; }
	mandoc -T lint -W warning $(PAGES)
