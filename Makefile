# First CNN. Type `make` to see what there is.
#
# Every target sets up what it needs: all that has to be there is make and Python 3.11 to 3.13.
# Written for any POSIX shell and for GNU make 3.81, the one that macOS has.

.DEFAULT_GOAL := help
.PHONY: help lab app test build verify lock clean FORCE

# ---- what can be set: make lab PORT=8890 ----------------------------------------------------

PYTHON ?=#     which Python to make .venv from; otherwise the first that fits of PYTHONS
PORT ?=#       where lab or app listens; otherwise 8888 or 8000, or the next port that is free
NO_BROWSER ?=# 1: only print the address
ROOT ?=course# the folder that JupyterLab opens; ROOT=. for instructors, with the formgrader
MODEL ?=#      what app reads with: the path of a network of yours; otherwise the course's own
WORKERS ?=#    how many tests run at a time; otherwise 3, which suits two cores
LAB_ARGS ?=#   anything else for JupyterLab, such as --ip=0.0.0.0 inside a container

PYTHONS := python3.13 python3.12 python3.11 python3

VENV := .venv
BIN := $(VENV)/bin
UV := build/uv/bin/uv
UV_VERSION := 0.13.9

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile
	@echo
	@awk -F '[ ?=#]+' '/^[A-Z_]+ \?=.*# / { \
	    name = $$1; text = $$0; sub(/^[^#]*# */, "", text); printf "  %-13s %s\n", name "=", text }' Makefile

# ---- .venv ----------------------------------------------------------------------------------
#
# The stamp is written last and holds the checkout's place. So .venv is made anew when an
# installation was interrupted, when the checkout was moved, when the Python that it was made from
# is gone or is not the one asked for; and it is brought up to date when the lock changes.

STAMP := $(VENV)/.installed
SOUND := $(shell [ "`cat $(STAMP) 2>/dev/null`" = "$(CURDIR)" ] \
    && version=`$(BIN)/python -V 2>/dev/null` \
    && { [ -z "$(PYTHON)" ] || [ "$$version" = "`"$(PYTHON)" -V 2>/dev/null`" ]; } \
    && echo yes)
PIP := PIP_USER=0 $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input

# Leaves the name of a Python that fits in $$found, or says what is missing and stops.
define FIND_PYTHON
found=; seen=; bare=; \
for python in $(if $(PYTHON),"$(PYTHON)",$(PYTHONS)); do \
    version=`"$$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null` \
        || continue; \
    seen="$$seen $$python ($$version)"; \
    case $$version in 3.11|3.12|3.13) ;; *) continue ;; esac; \
    if "$$python" -c 'import ensurepip, venv' 2>/dev/null; then found=$$python; break; fi; \
    bare=$$version; \
done; \
if [ -z "$$found" ] && [ -n "$$bare" ]; then \
    echo "Python $$bare is here, but cannot make virtual environments. On Debian and Ubuntu:"; \
    echo "    apt install python3-venv      (or python$$bare-venv)"; \
    exit 1; \
elif [ -z "$$found" ]; then \
    echo "First CNN needs Python 3.11, 3.12 or 3.13; found:$${seen:- none}."; \
    echo "Install one, or say where it is: make PYTHON=/path/to/python3.12 ..."; \
    exit 1; \
fi >&2
endef

$(STAMP): requirements.lock pyproject.toml $(if $(SOUND),,FORCE)
ifeq ($(SOUND),)
	@$(FIND_PYTHON); \
	echo "Making $(VENV) with $$found, `"$$found" -V 2>&1`"; \
	rm -rf $(VENV) && "$$found" -m venv $(VENV)
	@echo "Installing what requirements.lock names: some 600 MB, a minute or more"
else
	@rm -f $(STAMP)
	@echo "Bringing $(VENV) up to date with requirements.lock and pyproject.toml"
endif
	@$(PIP) --only-binary :all: --require-hashes --requirement requirements.lock
	@$(PIP) --no-deps --no-build-isolation --editable .
	@printf '%s\n' "$(CURDIR)" > $(STAMP)

FORCE:

# ---- the targets ----------------------------------------------------------------------------

define WHICH_DATA
import sys
sys.tracebacklimit = 0
from firstcnn import data
print(f"{data.describe().rstrip('.')}, from {data.source()}.")
endef
export WHICH_DATA

# The folder of the kernel and of JupyterLab's settings comes first. Workspaces are kept here: one
# that another project left in HOME would open with complaints about files that are not here.
# answer_yes: Ctrl-C stops at once.
SETTINGS := $(CURDIR)/firstcnn/jupyter
LAB := env PATH="$(CURDIR)/$(BIN):$$PATH" \
    JUPYTER_PATH="$(SETTINGS)$${JUPYTER_PATH:+:$$JUPYTER_PATH}" \
    JUPYTER_CONFIG_PATH="$(SETTINGS)/config$${JUPYTER_CONFIG_PATH:+:$$JUPYTER_CONFIG_PATH}" \
    JUPYTERLAB_WORKSPACES_DIR="$(CURDIR)/.jupyter_lab/workspaces" \
    python -m jupyterlab --ServerApp.root_dir=. --ServerApp.answer_yes=True --log-level=WARN \
    $(if $(PORT),--port=$(PORT) --ServerApp.port_retries=0,--port=8888) \
    $(if $(filter-out 0,$(NO_BROWSER)),--no-browser) \
    $(if $(filter 0,$(shell id -u)),--allow-root) \
    $(LAB_ARGS)

APP := $(BIN)/firstcnn app $(if $(MODEL),"$(MODEL)") $(if $(PORT),--port=$(PORT)) \
    $(if $(filter-out 0,$(NO_BROWSER)),--no-browser)

lab: $(STAMP)  ## open the course in JupyterLab
ifneq ($(PORT),)
	@$(BIN)/python -c 'import socket; socket.create_server(("127.0.0.1", $(PORT)))' 2>/dev/null || { \
	    echo "Port $(PORT) is taken, or is not one to use. Try another: make lab PORT=8891" >&2; exit 1; }
endif
	@$(BIN)/firstcnn build --missing
	@TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python -c "$$WHICH_DATA" || true
	@cd "$(ROOT)" && exec $(LAB)

app: $(STAMP)  ## open the drawing pad: a network reads a digit while you draw it
	@exec $(APP)

test: $(STAMP)  ## check everything: style, that the notebooks are current, all tests
	@$(call STEP,ruff check,$(BIN)/ruff check .)
	@$(call STEP,ruff format,$(BIN)/ruff format --check .)
	@$(call STEP,firstcnn verify,$(BIN)/firstcnn verify)
	@echo "== pytest"
	@$(ONE_CORE_EACH) $(BIN)/python -m pytest -n $(or $(WORKERS),3) --dist loadscope --no-loadscope-reorder

# Tests wait for time limits, browsers and kernels: one worker more than there are cores.
# TensorFlow's threads wait by spinning: with more of them than cores, tests hold each other up.
ONE_CORE_EACH = TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1

STEP = echo "== $(1)"; $(2) || { echo "make test stopped at: $(1)" >&2; exit 1; }

build: $(STAMP)  ## make course/ and solutions/ from source/
	@$(BIN)/firstcnn build

verify: $(STAMP)  ## prove that course/ and solutions/ are what source/ makes
	@$(BIN)/firstcnn verify

# Keeps the versions that are in the lock as long as pyproject.toml allows them: UPGRADE=1 for new ones.
# With extras, since an older pip would otherwise look for the newest version of what has some.
lock: $(UV)-$(UV_VERSION)  ## work out requirements.lock and environment.yml from pyproject.toml
	@$(UV) pip compile pyproject.toml --group lab --group build --group test --universal \
	    --fork-strategy fewest --python-version 3.11 --generate-hashes --no-header --no-annotate --no-strip-extras \
	    --quiet $(if $(UPGRADE),--upgrade) -o requirements.lock
	@{ sed '/- pip:$$/q' environment.yml && \
	    sed -n 's/^\([[:alnum:]].*[^ ]\) *\\$$/      - \1/p' requirements.lock && \
	    echo '      - -e .'; } > build/environment.yml
	@mv build/environment.yml environment.yml

$(UV)-$(UV_VERSION):
	@$(FIND_PYTHON); rm -rf build/uv && "$$found" -m venv build/uv
	@build/uv/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@touch $@

clean:  ## remove .venv and caches (never your work, data or grades)
	rm -rf $(VENV) build .jupyter_lab .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
