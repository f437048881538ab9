# Each target does its own set-up: it needs Python 3.11 or newer, make and git; for the clients also Go, a JDK with
# Maven, and Node.js with npm. What is missing is skipped, and told; with STRICT=1 it fails.
#
#   make demo     a fal call over gRPC, end to end, without a key (FAL=live: against fal, with FAL_KEY)
#   make test     all tests, in two processes (WORKERS=0: in one)
#   make test-conformance  of them: fal's own clients against the emulator, and the emulator's
#   make test-errors       of them: fal's failures as statuses, and the cases in tests/cases/errors
#   make test-faults       of them: what goes wrong between fal, the service and its callers
#   make test-streams      of them: many streams, slow readers, shared following
#   make test-uploads      of them: files of any size
#   make test-security     of them: who may call what, hostile callers, floods, outside checks
#   make test-overload     of them: more calls than can be served
#   make test-clients      of them: clients in Go, Java, Node and Python, and their examples
#   make soak     ten minutes of calls that come and go, for leaks (SOAK_SECONDS=600)
#   make mutants  breaks the service in one way after the other, and sees that tests notice
#   make check    format, lint, types, proto lint, no break since the last release, generated files current
#   make gen      writes generated files anew
#   make format   mends what make check says about format
#   make lock     pins the dependencies anew

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
GEN_VENV := build/gen-venv
TESTS ?= tests
WORKERS ?= 2
SIDE_BY_SIDE = --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: demo test test-conformance test-errors test-faults test-streams test-uploads test-clients test-security \
	test-overload soak mutants check gen format lock clean
.DEFAULT_GOAL := test

demo: $(VENV)/.runtime
	$(BIN)/falrpc demo $(if $(filter live,$(FAL)),--live)

test: $(VENV)/.dev $(GEN_VENV)/.ready
	$(BIN)/pytest $(SIDE_BY_SIDE) $(if $(STRICT),--strict-tools) $(TESTS)

test-conformance: TESTS = tests/conformance tests/emulator
test-conformance: test

test-errors: TESTS = tests/errors tests/unit/test_error_bodies.py tests/unit/test_rpc_status.py tests/unit/test_status_table.py
test-errors: test

test-faults: TESTS = tests/faults tests/workers tests/unit/test_retry.py tests/unit/test_retry_budget.py tests/unit/test_breaker.py \
	tests/unit/test_endpoint_limits.py tests/unit/test_resolver.py tests/unit/test_transport.py tests/unit/test_engine_errors.py
test-faults: test

test-streams: TESTS = tests/streams tests/unit/test_mailbox.py tests/unit/test_turns.py tests/unit/test_log_deltas.py \
	tests/unit/test_events.py tests/unit/test_model_events.py tests/unit/test_streams.py tests/unit/test_call.py \
	tests/service/test_stream_calls.py tests/service/test_queue_calls.py
test-streams: test

test-uploads: TESTS = tests/uploads tests/service/test_upload_calls.py tests/unit/test_byte_budget.py \
	tests/unit/test_upload_targets.py tests/unit/test_cdn_storage.py tests/unit/test_storage_wire.py \
	tests/unit/test_storage_answers.py tests/unit/test_content_types.py tests/cli/test_inputs.py \
	tests/emulator/test_blobs.py
test-uploads: test

test-security: TESTS = tests/security tests/external tests/service/test_forwarded_certificates.py \
	tests/cli/test_explain.py tests/cli/test_token_command.py tests/unit/test_accounts.py \
	tests/unit/test_authentication.py tests/unit/test_jwks.py \
	tests/unit/test_certificates.py tests/unit/test_identity_patterns.py tests/unit/test_jwts.py \
	tests/unit/test_metadata.py tests/unit/test_ownership.py tests/unit/test_policy.py \
	tests/unit/test_policy_file.py tests/unit/test_tokens.py tests/unit/test_webhook_hosts.py
test-security: test

test-overload: TESTS = tests/overload tests/workers tests/unit/test_admission.py tests/unit/test_admission_fairness.py \
	tests/unit/test_memory.py
test-overload: test

test-clients: TESTS = tests/clients tests/packaging/test_generated.py tests/cli/test_channels.py
test-clients: test

SOAK_SECONDS ?= 600
soak: $(VENV)/.dev
	SOAK_SECONDS=$(SOAK_SECONDS) $(BIN)/pytest $(if $(STRICT),--strict-tools) -s tests/soak

mutants: $(VENV)/.dev
	$(BIN)/python -m tools.mutants

# The last release, whose callers no change of the contract may break.
RELEASE = $(shell git describe --tags --abbrev=0 --match 'v*' 2>/dev/null)
AGAINST = .git\#tag=$(RELEASE),subdir=protos

check: $(VENV)/.dev $(GEN_VENV)/.ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/buf lint protos
	$(BIN)/buf format --diff --exit-code protos
	$(if $(RELEASE),$(BIN)/buf breaking protos --against "$(AGAINST)")
	$(BIN)/python -m tools.generated_files --check $(if $(STRICT),--strict)

gen: $(VENV)/.dev $(GEN_VENV)/.ready
	$(BIN)/python -m tools.generated_files --write

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/buf format --write protos

# The service from this tree, with the pinned packages and no others.
$(VENV)/.runtime: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "falrpc needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

# The tools of the tests and checks on top.
$(VENV)/.dev: $(VENV)/.runtime tests/requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement tests/requirements.lock
	touch $@

# The generators apart: they are older than the runtime on purpose (protos/generate.py).
$(GEN_VENV)/.ready: protos/requirements.lock
	$(PYTHON) -m venv --clear $(GEN_VENV)
	$(GEN_VENV)/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement $<
	touch $@

lock: $(VENV)/.dev
	$(BIN)/python -m tools.lock

clean:
	rm -rf $(VENV) build dist demo-output
