# Every command of this tree. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PRESET ?= release
JOBS ?= $(shell nproc)

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: packages
packages: ## install what the build needs (apt), if anything is missing
	@tools/install_packages.sh build

.PHONY: build
build: packages ## build the program: bin/hulse
	@cmake --preset $(PRESET) --log-level=WARNING
	@ninja -C build/$(PRESET) -j $(JOBS)

.PHONY: quickstart
quickstart: build ## install, build, and watch this machine's own records flow through TCP, a topic and a file
	@PRESET=$(PRESET) tools/quickstart.sh

.PHONY: test-packages
test-packages:
	@tools/install_packages.sh build test check
	@tools/test_venv.sh

.PHONY: test
test: test-packages build ## every test but the long ones; ends with one line of counts
	@tools/run_tests.py --build build/$(PRESET) --pytest tests --results build/results/test.json

.PHONY: compat
compat: test-packages build ## our client on Apache Pulsar 4.0.8; the Go client's own suite and Pulsar's Java tools on our broker (long)
	@tests/compat/run_on_pulsar.sh build/$(PRESET)/tests/client_bus_test
	@HULSE_BUILD=$(CURDIR)/build/$(PRESET) tests/compat/run_on_pulsar.sh \
	  build/venv/bin/python -m pytest -q tests/compat tests/integration/test_bus.py
	@HULSE_BUILD=$(CURDIR)/build/$(PRESET) tests/compat/run_on_pulsar.sh build/venv/bin/python -m pytest -q \
	  tests/integration/test_cluster.py -k "killed or share or changes"
	@tests/compat/java_tools.py
	@tests/compat/go_suite.py --build build/$(PRESET)

.PHONY: asan
asan: test-packages ## the unit tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@cmake --preset asan --log-level=WARNING
	@ninja -C build/asan -t targets all | sed -n 's|^\(tests/[a-z0-9_]*_test\): .*|\1|p' | sort -u | xargs ninja -C build/asan -j $(JOBS)
	@tools/run_tests.py --build build/asan --seconds 600 --results build/results/asan.json

.PHONY: bench
bench: ## measure Hulse beside Apache Pulsar and the bare disk (long); BENCH="--rows udp-400k --no-peer" for a part
	@tools/install_packages.sh build bench
	@cmake --preset release -DHULSE_BENCH=ON --log-level=WARNING
	@ninja -C build/release -j $(JOBS)
	@bench/run.py --write docs/benchmarks.md $(BENCH)

.PHONY: faults
FAULT_ROUNDS ?= 6
faults: test-packages build ## kills, power losses, failing disks and networks, FAULT_ROUNDS times as long as in `make test`; FAULT_SEED=N repeats
	@HULSE_FAULT_ROUNDS=$(FAULT_ROUNDS) $(if $(FAULT_SEED),HULSE_FAULT_SEED=$(FAULT_SEED)) build/$(PRESET)/tests/disk_fault_test
	@HULSE_BUILD=$(CURDIR)/build/$(PRESET) HULSE_FAULT_ROUNDS=$(FAULT_ROUNDS) $(if $(FAULT_SEED),HULSE_FAULT_SEED=$(FAULT_SEED)) \
	  build/venv/bin/python -m pytest -q tests/faults

.PHONY: fuzz
FUZZ_SECONDS ?= 60
fuzz: test-packages ## every fuzzer of tests/fuzz for FUZZ_SECONDS each
	@cmake --preset fuzz --log-level=WARNING
	@ninja -C build/fuzz -j $(JOBS) fuzzers
	@tools/run_fuzzers.sh build/fuzz/fuzz $(FUZZ_SECONDS)

.PHONY: tsan
tsan: test-packages ## the unit tests under ThreadSanitizer
	@cmake --preset tsan --log-level=WARNING
	@ninja -C build/tsan -t targets all | sed -n 's|^\(tests/[a-z0-9_]*_test\): .*|\1|p' | sort -u | xargs ninja -C build/tsan -j $(JOBS)
	@TSAN_OPTIONS="suppressions=$(CURDIR)/tests/tsan.supp history_size=4 $$TSAN_OPTIONS" \
	  tools/run_tests.py --build build/tsan --seconds 900 --results build/results/tsan.json

.PHONY: check
check: ## layers, ban list and format of the tree, in seconds
	@tools/install_packages.sh check
	@tools/check_tree.py

.PHONY: format
format: ## let clang-format write every source file
	@tools/install_packages.sh check
	@git ls-files -z '*.h' '*.cpp' | xargs -0 -r clang-format-19 -i

.PHONY: clean
clean: ## remove what builds and tests made
	@rm -rf build bin
