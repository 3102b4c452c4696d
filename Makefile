# The commands of the project. `make install` is their common part and does nothing where nothing has changed.

PYTHON ?= python3
BIN := .venv/bin
CASES ?= tests/data/nl_sample.jsonl
HELDOUT ?= 200
SEED ?= 1
KILLS ?= 300

.PHONY: install demo test test-systemd chaos check docs bench bench-sched-sim bench-sched-live bench-peers eval-nl install-system uninstall-system clean

install:  ## .venv with llmos and all it needs, and the default model
	@$(PYTHON) tools/install.py

demo: install  ## three requests in words, end to end, leaving nothing running
	@$(BIN)/python tools/demo.py

test: install  ## all tests
	@$(BIN)/python -m pytest -n 2 --dist worksteal

test-systemd: install  ## llmosd under a real systemd in a container; needs root and debootstrap, docs/systemd.md
	@$(BIN)/python -m pytest tests/systemd/scenarios.py -n 0 -s -v --timeout 900

chaos: install  ## llmosd under fire: what is lost when it is killed 300 times, and worse; docs/reliability.md
	@$(BIN)/python -m tests.chaos --seed $(SEED) --kills $(KILLS)

check: install  ## style, types, generated documentation
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m llmos.docs --check

docs: install  ## write the generated documentation anew
	$(BIN)/python -m llmos.docs --write

bench: install  ## the figures of the README
	@$(BIN)/python -m benchmarks

bench-sched-sim: install  ## policies of the scheduler in simulation; TRACES="FILE=PROCESSORS …", else generated ones
	@$(BIN)/python -m benchmarks.sched_sim $(TRACES)

bench-sched-live: install  ## real jobs by each policy, the kernel alone and static rules in turn; about 5 hours, ARGS="--runs 2 --seconds 30"
	@$(BIN)/python -m benchmarks.sched_live $(ARGS)

bench-peers: install  ## llmosd beside supervisord, circus and pm2, which it installs in the user's cache; about 15 minutes
	@$(BIN)/python -m benchmarks.peers

eval-nl: install  ## how well and how fast the models understand; CASES=FILE of requests with accepted plans
	@$(BIN)/python -m llmos.nlui.evaluate $(CASES) --heldout $(HELDOUT)

install-system:  ## for the whole machine, as a systemd service, from .venv; needs root, or DESTDIR=FOLDER
	@test -x $(BIN)/llmosd || { echo "run make install first"; exit 1; }
	@DESTDIR="$(DESTDIR)" $(BIN)/python tools/install_system.py install

uninstall-system:  ## the other way round
	@DESTDIR="$(DESTDIR)" $(BIN)/python tools/install_system.py uninstall

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
