# make demo | test | check | bench: each makes its own environment in .venv first.
PY     ?= python3
VENV   ?= .venv
TORCH  ?= torch==2.13.0
EXTRAS ?= dev,chat,data,web,hf,gguf,eval,rl,quant
# make bench BENCH= measures everything in full, which takes about two hours.
BENCH  ?= --quick
# uv does not read pip's find-links: hand them over. Where none are set, let uv choose the CPU or CUDA build of torch.
FIND    := $(or $(UV_FIND_LINKS),$(shell $(PY) -m pip config get global.find-links 2>/dev/null),$(PIP_FIND_LINKS))
BACKEND ?= $(if $(FIND),,auto)
BIN     := $(VENV)/bin

.PHONY: demo test check bench clean
$(VENV)/.ok: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PY) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt uv
	VIRTUAL_ENV=$(VENV) UV_FIND_LINKS="$(FIND)" UV_COMPILE_BYTECODE=1 $(BIN)/uv pip install -q \
	  $(if $(BACKEND),--torch-backend=$(BACKEND)) -c constraints.txt "$(TORCH)" -e ".[$(EXTRAS)]"
	touch $@

demo: $(VENV)/.ok
	$(BIN)/congling train examples/smallworld.toml --out runs/demo

test: $(VENV)/.ok
	$(BIN)/python -m pytest -n 2 tests

check: $(VENV)/.ok
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

bench: $(VENV)/.ok
	$(BIN)/python benchmarks/run.py $(BENCH)

clean:
	rm -rf $(VENV) build dist src/*.egg-info
