# Every target does its own set-up; `make demo` and `make test` are the two to know.

VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' mep/__init__.py)
# Beyond a base system, tests need: units and sessions (systemd), the installed package (mmdebstrap, rpm), TLS,
# containers, a batch system with two MPIs, databases, a directory.
TEST_PACKAGES := systemd libpam-systemd dbus mmdebstrap rpm openssl podman runc uidmap \
	munge slurmctld slurmd slurm-client slurm-wlm-basic-plugins slurmdbd slurm-wlm-mysql-plugin mariadb-server \
	slurm-wlm-torque gcc openmpi-bin libopenmpi-dev mpich libmpich-dev \
	postgresql libpam-pwdfile slapd python3-ldap logrotate redis-server
# bench/peers.py measures other systems, in an environment of its own that holds them.
BENCHES := $(filter-out bench/peers.py,$(wildcard bench/*.py))

.DELETE_ON_ERROR:
.PHONY: help demo test check format bench deb rpm clean
.NOTPARALLEL:

help:
	@echo 'make demo     the whole service on this machine, in half a minute'
	@echo 'make test     all tests (as root: with real accounts); skips are listed with their reason'
	@echo 'make check    formatting, lint, types, import rules, documentation'
	@echo 'make format   let ruff rewrite what it can'
	@echo 'make bench    figures, into bench/out/'
	@echo 'make deb rpm  packages, into dist/'
	@echo 'make clean    remove what these made'

demo:
	@venv=$$(sh tools/setup) && "$$venv/bin/python" tools/demo.py

test:
	@sh tools/need $(TEST_PACKAGES) || [ "$$MEP_REQUIRE_ALL" != 1 ]
	@venv=$$(sh tools/setup) && "$$venv/bin/pytest" $(ARGS)

check:
	@sh tools/check

format:
	@venv=$$(sh tools/setup) && "$$venv/bin/ruff" format . && "$$venv/bin/ruff" check --fix .

bench:
	@sh tools/need $(TEST_PACKAGES) || true
	@venv=$$(sh tools/setup) && for bench in $(BENCHES); do \
		echo "== $$bench"; "$$venv/bin/python" "$$bench" || exit 1; done

deb:
	@sh packaging/deb/build "$(VERSION)" dist

rpm:
	@sh packaging/rpm/build "$(VERSION)" dist

clean:
	rm -rf dist build bench/out .venv .venv.lock .peers .peers.lock .oracle .oracle.lock .mypy_cache .ruff_cache .pytest_cache .hypothesis \
		.import_linter_cache .benchmarks
	find mep sdk cloud tests tools bench -name __pycache__ -type d -prune -exec rm -rf {} +
