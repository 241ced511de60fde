# make demo: train CVAE-GAN on real handwritten digits and draw samples.   make test: all tests.
# make quick: the tests that need no subprocess, in about a minute.   make lint: style and types.
# make docs: the docs site, build/docs/index.html.
# Each first makes .venv with the versions of requirements.lock, whose files requirements.hashes pins.
# make emulator PORT=9123: a bucket on this machine, gs://vaegan-bucket; make -s emulator-env PORT=9123: the exports for it.
# make hashes: renew requirements.hashes after a change of requirements.lock; needs uv.
PYTHON ?= python3
BIN := .venv/bin
PORT ?= 9123
WORKERS := -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo test quick lint docs emulator emulator-env hashes clean
.DELETE_ON_ERROR:

demo: .venv/ready
	$(BIN)/python experiments/train.py --config=configs/digits.py:cvae_gan --workdir=runs/demo
	$(BIN)/python experiments/sample.py --workdir=runs/demo --out=runs/demo/samples.png
	$(BIN)/python experiments/sample.py --workdir=runs/demo --out=runs/demo/reconstructions.png --mode=reconstruct
	$(BIN)/python experiments/sample.py --workdir=runs/demo --out=runs/demo/interpolations.png --mode=interpolate
	$(BIN)/python experiments/judge_digits.py --workdir=runs/demo
	@echo "Look at runs/demo/samples.png, reconstructions.png and interpolations.png; runs/demo/samples/ shows the course of training."
	@echo "To go on by hand: source .venv/bin/activate"

test: .venv/ready
	$(BIN)/python -m pytest $(WORKERS)

quick: .venv/ready
	$(BIN)/python -m pytest $(WORKERS) -m "not slow"

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

.venv/ready: requirements.hashes setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "vaegan_jax needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Name another: make PYTHON=python3.12 demo")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.hashes
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

docs: .venv/ready
	$(BIN)/python -m sphinx -W --keep-going -q -c docs -d build/doctrees . build/docs
	@echo "Open build/docs/index.html"

emulator: .venv/ready
	$(BIN)/python -m reliability.emulator --port=$(PORT)

emulator-env: .venv/ready
	@$(BIN)/python -m reliability.emulator --port=$(PORT) --env

hashes:
	uv pip compile requirements.lock --generate-hashes --universal --no-deps --no-annotate \
	  --python-version 3.11 --custom-compile-command "make hashes" --output-file requirements.hashes

clean:
	rm -rf .venv build *.egg-info
