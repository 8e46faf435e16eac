# make demo | make test | make lint | make setup. Each prepares .venv by itself the first time.
PYTHON ?= python3
VENV   := .venv
STAMP  := $(VENV)/dcvc-setup.sha256

.PHONY: setup demo test slow lint clean
setup: $(STAMP)
$(STAMP): bootstrap.py pyproject.toml constraints.txt
	$(PYTHON) bootstrap.py
	@touch $(STAMP)

demo: $(STAMP)          ## make demo VIDEOS=folder OUT=folder: both optional
	$(VENV)/bin/dcvc demo $(if $(VIDEOS),--train_video_dir "$(VIDEOS)") $(if $(OUT),--checkpoint_dir "$(OUT)")

test: $(STAMP)
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n 2 --dist loadfile -m "not slow and not alone"
	$(VENV)/bin/python -m pytest -m "alone and not slow"

slow: $(STAMP)          ## the long forms of the tests
	$(VENV)/bin/python -m pytest -m slow

lint: $(STAMP)
	$(VENV)/bin/ruff check .

clean:
	rm -rf $(VENV) *.egg-info .pytest_cache .ruff_cache
