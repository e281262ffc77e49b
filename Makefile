# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Every target sets up what it needs by itself (tests/setup): on a Debian 12 or 13 machine, as root.

.DEFAULT_GOAL := help
.PHONY: help setup lint docs galaxy nox sanity unit cores browser live trixie trixieall fleet ee hypervisor integration
.PHONY: test test-all demo bench sweep clean release release-check

help: ## what there is (this list)
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

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

nox: setup ## sessions of antsibull-nox, or one: make nox ARGS='-e docs-check'
	@tests/nox $(ARGS)

unit: setup ## unit tests, no guest
	@tests/run unit

sanity: setup ## ansible-test sanity, without an ignore file
	@tests/run sanity

cores: setup ## sanity and unit tests with the newest and the oldest ansible-core, the role with the oldest
	@tests/run cores

release-check: setup ## build what users install, look into it, install it, and run it on a real guest
	@tests/run release-check

browser: setup ## the report, as a browser shows it; pictures go to .build/pictures
	@tests/run browser

live: setup ## tests on real guests
	@tests/run live

trixie: setup ## the core of those, on Debian 13's libvirt and QEMU
	@tests/run trixie

trixieall: setup ## all tests on real guests, on Debian 13's libvirt and QEMU
	@tests/run trixieall

fleet: setup ## tests by ssh on several hypervisors at once
	@tests/run fleet

ee: setup ## what an execution environment needs, and a play in one
	@tests/run ee

hypervisor: setup ## tests on a whole hypervisor in a VM: LVM, btrfs, xfs, AppArmor
	@tests/run hypervisor

integration: setup ## ansible-test integration, on real guests
	@tests/run integration

test: setup ## lint nox docs galaxy unit cores release-check browser live trixie fleet ee hypervisor integration; WITHOUT=live leaves one out
	@WITHOUT="$(WITHOUT)" tests/run lint nox docs galaxy unit cores release-check browser live trixie fleet ee hypervisor integration

test-all: setup ## all of the above with every ansible-core and Python that this machine has; ends with a table
	@WITHOUT="$(WITHOUT)" tests/run lint nox docs galaxy unit release-check browser live trixie fleet ee hypervisor matrix

bench: setup ## measure how long guests stand still
	@tests/bench/bench

sweep: setup ## break each operation at each of its libvirt calls, on real guests; takes half an hour or more, ARGS='--every 20' minutes
	@.venv/bin/python tests/sweep $(ARGS)

release: setup ## make the changelog of the version in galaxy.yml of the fragments; see CONTRIBUTING.md
	@.venv/bin/python tests/release/cut.py $(if $(DATE),--date $(DATE))

clean: ## remove what the targets made in this folder
	rm -rf .build .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis tests/output
