# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Every target sets up what it needs by itself (tests/setup): on a Debian 12 or 13 machine, as root.

.DEFAULT_GOAL := help
.PHONY: help setup lint docs galaxy nox sanity unit live fleet hypervisor integration test demo bench sweep clean

help: ## what there is (this list)
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what is missing: Debian packages, .venv
	@tests/setup

demo: setup ## see it work on real guests
	@tests/demo/demo

lint: setup ## ruff, mypy, yamllint, shellcheck, docs, changelog, licences
	@tests/run lint

docs: setup ## build the docs site in .build/docs/html, and check its links
	@tests/run docs

galaxy: setup ## build the collection, and have the importer of Ansible Galaxy look at it
	@tests/run galaxy

nox: setup ## the sessions of antsibull-nox, or one: make nox ARGS='-e docs-check'
	@"$$(tests/venv nox)/bin/nox" $(ARGS)

unit: setup ## unit tests, no guest
	@tests/run unit

sanity: setup ## ansible-test sanity, without an ignore file
	@tests/run sanity

live: setup ## tests on real guests
	@tests/run live

fleet: setup ## tests by ssh on several hypervisors at once
	@tests/run fleet

hypervisor: setup ## tests on a whole hypervisor in a VM: LVM, btrfs, xfs, AppArmor
	@tests/run hypervisor

integration: setup ## ansible-test integration, on real guests
	@tests/run integration

test: setup ## all of the above, the quick ones first; WITHOUT=hypervisor leaves that part out
	@WITHOUT="$(WITHOUT)" tests/run lint docs galaxy unit sanity live fleet hypervisor integration

bench: setup ## measure how long guests stand still
	@tests/bench/bench

sweep: setup ## break each operation at each of its libvirt calls, on real guests; takes half an hour or more, ARGS='--every 20' minutes
	@.venv/bin/python tests/sweep $(ARGS)

clean: ## remove what the targets made in this folder
	rm -rf .build .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis tests/output
