# Two commands: `make demo` and `make test`; `make demo-det`, `make demo-reid` and `make demo-search`
# are the demonstrations of detection, re-identification and of finding people in videos; `make app`
# shows on a web page what they trained. Each makes the virtual environment where it is missing.
#   VENV=path          where the virtual environment is (default .venv)
#   PYTHON=python3.12  with which Python it is made (default python3)
#   PIP_FLAGS="..."    for pip, e.g. "--extra-index-url https://download.pytorch.org/whl/cpu"

VENV ?= .venv
PYTHON ?= python3
PIP_FLAGS ?=
DEMO_DIR ?= work_dirs/demo
# The config's own 20 epochs take four minutes for the same accuracy within half a point.
DEMO_EPOCHS ?= 8
DEMO_DET_DIR ?= work_dirs/demo-det
DEMO_REID_DIR ?= work_dirs/demo-reid
DEMO_SEARCH_DIR ?= work_dirs/demo-search

BIN := $(VENV)/bin
DEMO_CONFIG := configs/pslt/pslt-tiny_digits.py
DEMO_REID_CONFIG := configs/pslt/reid_pslt-tiny_walkers.py
SEARCH_REID := configs/pslt/reid_pslt-mini_walker-scenes.py
SEARCH_DET := configs/pslt/retinanet_pslt-mini_walker-scenes.py
SCENES := $(or $(WALKER_SCENES_ROOT),data/walker_scenes)/search
DEMO_DET_CONFIG ?= configs/pslt/retinanet_pslt-tiny_digit-scenes.py
# The detector starts from a classifier of digits on textures, which a second call finds again.
CLASSIFIER_CONFIG := configs/pslt/pslt-tiny_textured-digits.py
CLASSIFIER_DIR := work_dirs/textured-digits
CLASSIFIER := $(CLASSIFIER_DIR)/epoch_12.pth
FROM_CLASSIFIER = model.backbone.init_cfg.type=Pretrained \
	model.backbone.init_cfg.prefix=backbone. \
	model.backbone.init_cfg.checkpoint=$(CLASSIFIER)
# Two processes of half the cores are faster than one of all: most maps are small.
PROCESSES := $(shell [ "$$(getconf _NPROCESSORS_ONLN)" -gt 1 ] && echo 2 || echo 1)

.PHONY: demo demo-det demo-reid demo-search app test docs lint dist format audit clean help

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

demo: $(VENV)/.ready-openmm  ## train PSLT-tiny on handwritten digits and evaluate it
	$(BIN)/python tools/train.py $(DEMO_CONFIG) --seed 0 --work-dir $(DEMO_DIR) \
	    --cfg-options train_cfg.max_epochs=$(DEMO_EPOCHS)
	$(BIN)/python tools/test.py $(DEMO_CONFIG) "$$(cat $(DEMO_DIR)/last_checkpoint)" \
	    --work-dir $(DEMO_DIR)/test --show-dir $(DEMO_DIR)/pictures
	@echo 'next: pictures in $(DEMO_DIR)/pictures; make app (a web page); your own images: README.md, Recipes'

demo-det: $(VENV)/.ready-openmm $(CLASSIFIER)  ## train PSLT-tiny RetinaNet on scenes of digits, draw 16 predictions
	PYTHON=$(BIN)/python tools/dist_train.sh $(DEMO_DET_CONFIG) $(PROCESSES) \
	    --seed 0 --work-dir $(DEMO_DET_DIR) --cfg-options $(FROM_CLASSIFIER)
	$(BIN)/python tools/test.py $(DEMO_DET_CONFIG) "$$(cat $(DEMO_DET_DIR)/last_checkpoint)" \
	    --work-dir $(DEMO_DET_DIR)/test --show-dir $(DEMO_DET_DIR)/pictures --show-number 16

demo-reid: $(VENV)/.ready-openmm  ## train PSLT-tiny on drawn pedestrians, search for others, draw 8 rank lists
	PYTHON=$(BIN)/python tools/dist_train.sh $(DEMO_REID_CONFIG) $(PROCESSES) \
	    --seed 0 --work-dir $(DEMO_REID_DIR) --cfg-options \
	    train_dataloader.batch_size=$$((32 / $(PROCESSES))) \
	    train_dataloader.sampler.num_persons=$$((8 / $(PROCESSES)))
	$(BIN)/python tools/test.py $(DEMO_REID_CONFIG) "$$(cat $(DEMO_REID_DIR)/last_checkpoint)" \
	    --work-dir $(DEMO_REID_DIR)/test --show-dir $(DEMO_REID_DIR)/rank_lists

# The detector starts from the backbone that tells people apart; a second call trains nothing again.
demo-search: $(VENV)/.ready-search  ## train a detector and re-ID on drawn pedestrians, find others in videos
	PYTHON=$(BIN)/python tools/dist_train.sh $(SEARCH_REID) $(PROCESSES) \
	    --seed 0 --work-dir $(DEMO_SEARCH_DIR)/reid --resume --cfg-options \
	    train_dataloader.batch_size=$$((64 / $(PROCESSES))) \
	    train_dataloader.sampler.num_persons=$$((16 / $(PROCESSES)))
	PYTHON=$(BIN)/python tools/dist_train.sh $(SEARCH_DET) $(PROCESSES) \
	    --seed 0 --work-dir $(DEMO_SEARCH_DIR)/detector --resume --cfg-options \
	    train_dataloader.batch_size=$$((4 / $(PROCESSES))) \
	    model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.prefix=backbone. \
	    model.backbone.init_cfg.checkpoint="$$(cat $(DEMO_SEARCH_DIR)/reid/last_checkpoint)"
	$(BIN)/python tools/person_search.py index $(addprefix $(SCENES)/,WS-01 WS-02 WS-03) \
	    --detector $(SEARCH_DET) "$$(cat $(DEMO_SEARCH_DIR)/detector/last_checkpoint)" \
	    --reid $(SEARCH_REID) "$$(cat $(DEMO_SEARCH_DIR)/reid/last_checkpoint)" \
	    --min-iou 0.6 --lost 0.5 --max-distance 0.1 --out $(DEMO_SEARCH_DIR)/found --overwrite
	$(BIN)/python tools/person_search.py evaluate $(DEMO_SEARCH_DIR)/found --truth $(SCENES) \
	    --queries $(SCENES)/queries --query-expansion 1 --show $(DEMO_SEARCH_DIR)/found.png

# A tab for each demonstration that was made.
DEMO_DONE = $(wildcard $(DEMO_DIR)/last_checkpoint)
DEMO_DET_DONE = $(wildcard $(DEMO_DET_DIR)/last_checkpoint)
DEMO_SEARCH_DONE = $(wildcard $(DEMO_SEARCH_DIR)/found/gallery)
APP_FLAGS = \
	$(if $(DEMO_DONE),--classifier $(DEMO_CONFIG) "$$(cat $(DEMO_DONE))") \
	$(if $(DEMO_DET_DONE),--detector $(DEMO_DET_CONFIG) "$$(cat $(DEMO_DET_DONE))") \
	$(if $(DEMO_SEARCH_DONE),--search $(DEMO_SEARCH_DIR)/found --people $(SCENES)/queries)

app: $(VENV)/.ready-app  ## show on a web page what the demonstrations trained
	@[ -n "$(strip $(DEMO_DONE)$(DEMO_DET_DONE)$(DEMO_SEARCH_DONE))" ] || { \
	    echo 'nothing to show yet: run make demo, make demo-det or make demo-search first' >&2; \
	    exit 2; }
	$(BIN)/python tools/app.py $(APP_FLAGS)

$(CLASSIFIER): | $(VENV)/.ready-openmm
	PYTHON=$(BIN)/python tools/dist_train.sh $(CLASSIFIER_CONFIG) $(PROCESSES) \
	    --seed 0 --work-dir $(CLASSIFIER_DIR) --resume --cfg-options \
	    train_dataloader.batch_size=$$((64 / $(PROCESSES)))

test: $(VENV)/.ready-dev  ## run the tests
	$(BIN)/python -m pytest -n auto --dist loadfile $(PYTEST_FLAGS)

docs: $(VENV)/.ready-docs  ## build the documentation's site into work_dirs/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict -q
	@echo 'work_dirs/site: python -m http.server -d work_dirs/site, or open index.html (no search then)'

lint: $(VENV)/.ready-dev  ## check style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# By way of the source archive: what is not in it is not in the wheel.
dist: $(VENV)/.ready-dev  ## build wheel and source archive into dist/
	rm -rf dist
	$(BIN)/python -m build --no-isolation

format: $(VENV)/.ready-dev  ## put the code into our format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Without --strict packages that could not be looked up would end with exit code 0. A build of PyTorch
# (2.14.1+cpu) is looked up as its version.
audit: $(VENV)/.ready-audit  ## look all installed packages up in PyPI's list of known vulnerabilities
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+.*//' > $(VENV)/installed.txt
	$(VENV)/audit/bin/pip-audit --strict --no-deps --disable-pip $(AUDIT_FLAGS) -r $(VENV)/installed.txt

clean:  ## remove the virtual environment and caches
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache

# One stamp a set of extras: a second call installs nothing, a change of what is to be installed does.
# All others add to openmm without naming it: pip would bring back what one_opencv took out, and a
# training that runs meanwhile would lose its OpenCV.
PACKAGING := pyproject.toml setup.py
# onedl-mmdetection's imaug asks for both packages of OpenCV, which write the same files: the one that
# mmcv asks for is put there alone. See docs/compatibility.md.
define one_opencv
	@if $(BIN)/python -m pip show -q opencv-python-headless 2>/dev/null; then \
	    kept="$$($(BIN)/python -m pip freeze | grep '^opencv-python==')" && \
	    $(BIN)/python -m pip uninstall -q -y opencv-python-headless opencv-python && \
	    $(BIN)/python -m pip install -q $(PIP_FLAGS) --no-deps "$$kept"; \
	fi
endef

# pip -q says nothing for minutes.
told_of_installing = @echo 'installing packages into $(VENV): some minutes the first time, without a word'

$(VENV)/.ready-openmm: $(PACKAGING) $(BIN)/python
	$(told_of_installing)
	$(BIN)/python -m pip install -q $(PIP_FLAGS) -e '.[openmm]'
	$(one_opencv)
	@touch $@

$(VENV)/.ready-search: $(VENV)/.ready-openmm
	$(told_of_installing)
	$(BIN)/python -m pip install -q $(PIP_FLAGS) -e '.[track]'
	@touch $@

$(VENV)/.ready-app: $(VENV)/.ready-search
	$(told_of_installing)
	$(BIN)/python -m pip install -q $(PIP_FLAGS) -e '.[app]'
	@touch $@

# pip-audit brings packages of its own: they are kept apart from what it looks at.
$(VENV)/.ready-audit: $(VENV)/.ready-all
	$(PYTHON) -m venv $(VENV)/audit
	$(VENV)/audit/bin/python -m pip install -q $(PIP_FLAGS) pip-audit
	@touch $@

$(VENV)/.ready-all: $(VENV)/.ready-dev
	$(told_of_installing)
	$(BIN)/python -m pip install -q $(PIP_FLAGS) -e '.[export]'
	@touch $@

$(VENV)/.ready-docs: $(PACKAGING) $(BIN)/python
	$(told_of_installing)
	$(BIN)/python -m pip install -q $(PIP_FLAGS) -e '.[docs]'
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready-openmm
	$(told_of_installing)
	$(BIN)/python -m pip install -q $(PIP_FLAGS) -e '.[dev]'
	@touch $(VENV)/.ready-search $(VENV)/.ready-app $(VENV)/.ready-docs $@

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
