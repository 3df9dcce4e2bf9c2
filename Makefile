# kablate: the front door. `make help` lists everything.

# What a user gives reaches the recipes as it was typed: make expands none of it
# (these lines and $(value NAME)), the shell sees "$$NAME" alone. What is ours is
# `override`: no NAME=value changes it. Before anything that starts a shell: make 4.4
# exports to it.
override typed := $(strip $(foreach .v,$(.VARIABLES),$(if $(findstring command line,$(origin $(.v))),$(.v))))
$(foreach .v,$(typed),$(eval override export $(.v) := $$(value $(.v))))
override SHELL := /bin/sh
override .SHELLFLAGS := -c
include Makefile.variables

.DEFAULT_GOAL := all
.NOTPARALLEL:
MAKEFLAGS += --no-builtin-rules
override VPATH :=
override GPATH :=

export BASE_PYTHON ?= python3
override PY := $(if $(value PYTHON),"$$PYTHON",.venv/bin/python)
override SETUP := $(if $(value PYTHON),,.venv/.ready)
override SETUP_TEST := $(if $(value PYTHON),,.venv/.ready-test)
override SETUP_SLOW := $(if $(value PYTHON),,.venv/.ready-slow)

ifeq ($(value V),1)
override Q :=
else
override Q := @
MAKEFLAGS += --no-print-directory
endif

# Every process gets the cores that it is told to use and no more: see
# `make doctor`. Tests run one process per core with one thread each.
export PYTHONDONTWRITEBYTECODE := 1

override RUNNER := $(PY) scripts/run_test_matrix.py
override TRAIN := $(PY) gpt2/train_ra_mla.py
override PYTEST := OMP_NUM_THREADS=1 $(PY) scripts/with_args.py -m pytest

# $(call option,NAME,flag): --flag="$NAME" where NAME has a value.
override option = $${$(1):+--$(2)="$$$(1)"}

# What stops a target before .venv is made: the first of what the target needs.
.PHONY: .needs-config .needs-text
.needs-config:
	@[ -e "$${KCONFIG_CONFIG:-.config}" ] || { printf '%s\n' "error: $${KCONFIG_CONFIG:-.config}: \
	is not there: make defconfig-NAME or make menuconfig writes it" >&2; exit 1; }

.needs-text:
	@[ -z "$$TEXT" ] || [ -f "$$TEXT" ] || { printf '%s\n' "error: TEXT=$$TEXT: no such file" >&2; exit 1; }

include Makefile.kconfig

##@ The main job
.PHONY: all check check-all plan estimate watch continue rerun report data data-smoke generate export eval quickstart anchor
all: | .needs-config $(SETUP)		## Run the loaded configuration: plan, cells, report (DRY_RUN=1: check only; LOOK=1: one look)
	$(Q)$(RUNNER)

check: | .needs-config $(SETUP)	## Prove on the CPU that every step is what it claims (STEP=0,2,8-9; ARMS=adamw-*)
	$(Q)$(TRAIN) --dry-run $(call option,STEP,ra-mla-ablation-step) $${JSON:+--json}

check-all: | $(SETUP)	## The same for every study in defconfigs/
	$(Q)$(TRAIN) --dry-run --all $${JSON:+--json}

plan: | .needs-config $(SETUP)	## Every cell with its reason, what is excluded, disk forecast, time estimate
	$(Q)$(RUNNER) plan

estimate: | .needs-config $(SETUP)	## Time and energy of what is pending, cell by cell, and from what it is known
	$(Q)$(RUNNER) estimate

watch: | $(if $(value STUDY),,.needs-config) $(SETUP)	## Live table of a study, from any terminal (STUDY=NAME, ONCE=1)
	$(Q)$(PY) scripts/watch.py -- $${STUDY:+"$$STUDY"}

continue: | .needs-config $(SETUP)	## Resume what was interrupted or failed, start nothing new
	$(Q)$(RUNNER) continue

rerun: | .needs-config $(SETUP)	## Run finished cells again; the former runs are moved aside (STEPS=2 SEEDS=1)
	$(Q)$(RUNNER) rerun

data: | .needs-config $(SETUP)	## Pack the configured corpus
	$(Q)$(PY) scripts/prepare_data.py

data-smoke: | .needs-config $(SETUP)	## Time the corpus and the loader, without a model
	$(Q)$(PY) scripts/prepare_data.py --smoke

report: | .needs-config $(SETUP)	## Verdicts, tables and plots of the loaded study
	$(Q)$(PY) scripts/make_report.py

generate: | $(SETUP)	## Sample text from a finished run: RUN=newest PROMPT=… (docs/generate.md)
	$(Q)$(PY) scripts/generate.py --prompt="$$PROMPT" --stop="$$STOP" \
	  $(call option,TOKENS,tokens) $(call option,SEED,seed) $(call option,DEVICE,device) \
	  $(call option,DECODE,decode) $(call option,TEMPERATURE,temperature) $(call option,TOP_K,top-k) \
	  $(call option,TOP_P,top-p) $(call option,MIN_P,min-p) -- "$$RUN"

export: | $(SETUP)	## A finished run for other programs: RUN=newest FORMAT=hf|gguf|native|onnx (docs/export.md)
	$(Q)$(PY) scripts/export.py $(call option,FORMAT,format) $(call option,DTYPE,dtype) \
	  $(call option,OUT,out) -- "$$RUN"

eval: | $(SETUP)	## Evaluate on TEXT=file or TASKS=a,b: RUN=newest, or STUDY=NAME (docs/evaluation.md)
	$(Q)$(PY) scripts/eval.py --tasks="$$TASKS" $(call option,STRIDE,stride) \
	  $(call option,LIMIT,limit) $(call option,SHOTS,shots) $(call option,SEED,seed) \
	  $(call option,BATCH,batch) $(call option,DEVICE,device) \
	  $(call option,RUN,run) $(call option,STUDY,study) $(call option,TEXT,text)

quickstart: | .needs-text $(SETUP)	## Configure, pack, check and train a small study on the CPU (TEXT=file: on your own text)
	$(Q)$(KCONFIG) defconfig $(call option,TEXT,text) "gpt2-ratio-ablation+tiny+quick$${TEXT:++text}"
	$(Q)$(PY) scripts/prepare_data.py
	$(Q)$(TRAIN) --dry-run
	$(Q)$(RUNNER)
	$(Q)$(PY) scripts/next_steps.py

anchor: | $(SETUP)	## Train to a published loss: TEXT=file (tinyshakespeare), DEVICE=cuda: the larger one
	$(Q)$(PY) scripts/anchor.py -- "$$TEXT"

##@ Evidence (docs/evidence.md)
.PHONY: tune ladder prereg verdict promote compare
tune: | .needs-config $(SETUP)	## Train every arm at every point of CONFIG_TUNE, choose each its best (CONFIG_TUNE_SEEDS)
	$(Q)$(RUNNER) tune

ladder: | .needs-config $(SETUP)	## The study at every size of CONFIG_LADDER, and its differences against size
	$(Q)$(RUNNER) ladder

prereg: | .needs-config $(SETUP)	## Before the first run: seal metric, arms, seeds, smallest effect, stop rule
	$(Q)$(RUNNER) prereg

verdict: | .needs-config $(SETUP)	## The verdict on a step, or on all (STEP=7 CONTROL=0 METRIC=val_loss)
	$(Q)$(RUNNER) verdict

promote: | .needs-config $(SETUP)	## DESIGN=screen-confirm, after STAGE=screen make: record the best arms for STAGE=confirm
	$(Q)STAGE="$${STAGE:-screen}" $(RUNNER) promote

compare: | $(SETUP)	## Two studies, steps or runs side by side (A=STUDY/STEP B=STUDY/STEP; docs/operations.md)
	$(Q)$(PY) scripts/compare_runs.py -- "$$A" "$$B"

##@ Trackers (docs/tracker.md)
.PHONY: sync publish-check
sync: | $(if $(value STUDY),,.needs-config) $(SETUP)	## Send runs to the trackers, now or again (STUDY=NAME; TRACKER=wandb,trackio)
	$(Q)$(PY) scripts/sync_trackers.py -- $${STUDY:+"$$STUDY"}

publish-check: | $(SETUP)	## The checklist before publishing, and the block to carry (STUDY=NAME; REMOTE=URL)
	$(Q)$(PY) scripts/verify_wandb_publication.py --source local --study="$$STUDY" $(call option,REMOTE,remote)

##@ Tests and style
.PHONY: test test-slow chaos test-mutants list-mutants gpu-test aot style fix-style
test: | $(SETUP_TEST)	## Run the tests (ARGS="-k 'one or two' -x": words for pytest, never run by a shell)
	$(Q)$(PYTEST) -n auto -m 'not slow and not gpu'

test-slow: | $(SETUP_SLOW)	## The suites that take minutes, extras included
	$(Q)$(PYTEST) -m slow

chaos: | $(SETUP_TEST)	## 200 random faults over a tiny study, minutes to an hour (FAULTS=20 SEED=3)
	$(Q)$(PY) -m tests.chaos.run

test-mutants: | $(SETUP_TEST)	## Sabotage the source: every mutant must be caught (MUTANTS="ra-*")
	$(Q)$(PY) -m tests.mutants.run

list-mutants: | $(SETUP_TEST)	## What each mutant does, and what catches it (MUTANTS="ra-*")
	$(Q)$(PY) -m tests.mutants.run --list

gpu-test: | $(SETUP_TEST)	## Every shipped kernel configuration on this machine's GPU, against float64 (JOBS=8, ARGS=tests/kernels/test_decode.py)
	$(Q)$(PY) scripts/gpus.py --require
	$(Q)$(PYTEST) -n "$${JOBS:-8}" -m 'gpu and not alone' $(if $(value ARGS),,tests/kernels)
	$(Q)$(if $(value ARGS),,$(PYTEST) -m 'gpu and alone' tests/kernels)
	$(Q)$(if $(value ARGS),,$(PYTEST) -m gpu --ignore=tests/kernels)

aot: | $(SETUP_TEST)	## Compile every kernel's tiles for every target, no GPU needed; FULL=y in all variants (TARGETS="cuda:90 hip:gfx942" JOBS=2)
	$(Q)$(PY) scripts/aot.py $(call option,TARGETS,targets) $(call option,JOBS,jobs) $(if $(filter y,$(value FULL)),--full)

style: | $(SETUP_TEST)	## black, whitespace, imports, commit messages: check only
	$(Q)$(PY) -m black --check --quiet . || { $(PY) -m black --check . ; exit 1; }
	$(Q)$(PY) scripts/fix_whitespace_issues.py --check
	$(Q)$(PY) scripts/check_commit_messages.py
	$(Q)OMP_NUM_THREADS=1 $(PY) -m pytest -q tests/test_architecture.py

fix-style: | $(SETUP_TEST)	## Let black and the whitespace script repair what they can
	$(Q)$(PY) -m black --quiet .
	$(Q)$(PY) scripts/fix_whitespace_issues.py

##@ This machine
.PHONY: doctor gpus setup lock bench bench-compare compare-commits
doctor: | $(SETUP)	## Python, torch, GPUs, driver, threads, what is missing
	$(Q)$(PY) scripts/doctor.py

gpus: | $(SETUP)	## GPUs in groups that never cross a NUMA node, and who uses them (docs/fleet.md)
	$(Q)$(PY) scripts/gpus.py

setup: | $(SETUP) $(SETUP_TEST)	## Make .venv with everything, tests included

.venv/bin/python:
	@"$$BASE_PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "kablate needs Python 3.11 or newer; $$BASE_PYTHON is $$("$$BASE_PYTHON" -V 2>&1). Name another: make BASE_PYTHON=python3.12 …"; exit 1; }
	@echo "setting up .venv (once; a minute, or longer where torch is large)"
	@"$$BASE_PYTHON" -m venv .venv || \
	  { rm -rf .venv; echo "$$BASE_PYTHON cannot make environments (Debian: package python3-venv); or use an environment of yours: make PYTHON=python3 …"; exit 1; }

override INSTALL := .venv/bin/python -m pip install --quiet --disable-pip-version-check
override EXTRAS := eval export gpu onnx trackio wandb

.venv/.ready: requirements.txt requirements-torch.txt | .venv/bin/python
	@$(INSTALL) $(call option,TORCH_INDEX,index-url) -r requirements-torch.txt
	@$(INSTALL) --require-hashes -r requirements.txt
	@touch $@

.venv/.ready-test: requirements-test.txt .venv/.ready
	@$(INSTALL) --require-hashes -r requirements-test.txt
	@touch $@

.venv/.ready-slow: $(wildcard requirements-*.txt) .venv/.ready-test
	@$(INSTALL) --require-hashes $(EXTRAS:%=-r requirements-%.txt)
	@$(INSTALL) -r requirements-slow.txt
	@touch $@

lock: | $(SETUP)	## Write requirements*.txt from pyproject.toml, with hashes (needs uv)
	$(Q)$(PY) scripts/lock.py

bench: | $(SETUP)	## Attention and training steps beside their peers (PART=attention,recurrence,training STEPS=0-9 CONTEXTS=1024,2048 NANOGPT=model.py RESUME=results/bench/… ARGS=…)
	$(Q)$(PY) scripts/with_args.py scripts/bench.py $(call option,PART,part) $(call option,STEPS,steps) \
	  $(call option,CONTEXTS,contexts) $(call option,TOKENS,tokens) \
	  $(call option,NANOGPT,nanogpt) $(call option,RESUME,resume)

bench-compare: | $(SETUP)	## The last record of make bench against the one before it of its GPU (A=, B=results/bench/…)
	$(Q)$(PY) scripts/bench_compare.py $(call option,A,a) $(call option,B,b)

compare-commits: | $(SETUP)	## Whether two commits have the same networks, bit for bit (OLD= NEW=commit; ONLY='STUDY/*' EXPECT_FLOPS=STUDY/STEP,…)
	$(Q)$(PY) scripts/compare_commits.py $(call option,ONLY,only) \
	  $(call option,EXPECT_FLOPS,expect-flops) -- "$$OLD" "$$NEW"

##@ Cleaning (results, checkpoints and data are never deleted)
.PHONY: clean mrproper distclean
clean:			## Caches
	$(Q)rm -rf .pytest_cache .hypothesis
	$(Q)find . \( -path ./results -o -path ./data -o -path ./.venv -o -path ./.git \) -prune \
	  -o -type d -name __pycache__ -exec rm -rf {} +

mrproper: clean		## … and the configuration
	$(Q)rm -f .config .config.old config.py defconfig

distclean: mrproper	## … and .venv
	$(Q)rm -rf .venv

.PHONY: help
help:			## This list
	@awk -f scripts/help.awk Makefile Makefile.kconfig Makefile.variables
