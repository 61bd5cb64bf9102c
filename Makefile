# Each chore has one definition, here. `make` alone lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The second environment runs the same code on tflite-runtime, which needs Python 3.11 or older and numpy before 2.
OLD_PYTHON ?= $(shell for p in python3.11 $(PYTHON); do $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 12))' 2>/dev/null && echo $$p && break; done)
OLD_VENV := .venv-tflite
OLD_BIN := $(OLD_VENV)/bin
# The models are rebuilt in an environment of what the tools need and no more (under 400 MB), which shows that they need no framework.
MODELS_VENV := .venv-models
# Converters and quantizers of others, which pin what they need; onnx2tf needs Python 3.12 or later.
NEW_PYTHON ?= $(shell for p in $(PYTHON) python3.13 python3.12; do $$p -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null && echo $$p && break; done)
ONNX_VENV := .venv-onnx
KERAS_VENV := .venv-keras
QUANTIZER_VENV := .venv-litert-quantizer
FORMATS_VENV := .venv-formats
SITE_VENV := .venv-site
PAGE_VENV := .venv-page
HOMEASSISTANT_VENV := .venv-homeassistant
SERVICE_ROOT := .cache/service-root
SERVICE_ROOT_13 := .cache/service-root-13
WHEELS := .cache/wheels
ARM := .cache/arm
# For the root file systems: a line as in sources.list (as mmdebstrap finds it), a folder with another emulator than the system's.
MIRROR ?=
QEMU ?=
CAMERA_ROOT := .cache/camera-root
TRACKING_VENV := .venv-tracking
HOMEASSISTANT_PYTHON ?= $(shell for p in $(PYTHON) python3.13; do $$p -c 'import sys; sys.exit(sys.version_info[:2] != (3, 13))' 2>/dev/null && echo $$p && break; done)
RUN_DATA := .cache/run
# Where each run of the tests notes what it left out.
LEFT_OUT := .cache/left-out
MQTT ?= mqtt://localhost
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# The tests start hundreds of commands: compiled once, not each time, they take a third less.
unexport PYTHONDONTWRITEBYTECODE
export PATH := $(PATH):/usr/sbin:/sbin

.PHONY: help rule run test test-parts test-tools test-faults test-tflite docs site check format models micro env env-tflite system-packages faults long fuzz converters-test formats-test page-test homeassistant-test service-test deb deb-test constraints container-test arm bench structure wheel clean

help:  ## list the chores
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "edgeannot needs Python 3.11 or later, found " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip
	$(BIN)/python -m pip install -q -e '.[tools]' --group test --group check
	touch $@

$(OLD_VENV)/.ready: pyproject.toml
	$(OLD_PYTHON) -m venv $(OLD_VENV)
	$(OLD_BIN)/python -m pip install -q --upgrade pip
	$(OLD_BIN)/python -m pip install -q -e '.[tools,tflite-runtime]' --group test
	touch $@

$(MODELS_VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(MODELS_VENV)
	$(MODELS_VENV)/bin/python -m pip install -q -e '.[tools]'
	touch $@

env: $(VENV)/.ready  ## make the environment with LiteRT and everything for development
env-tflite: $(OLD_VENV)/.ready  ## make the second environment, with tflite-runtime

run: env  ## annotate the bundled sample photos; messages go to MQTT=mqtt://localhost where a broker answers
	@$(BIN)/edgeannot run --profile low --watch edgeannot/samples --out out --data-dir $(RUN_DATA) --mqtt $(MQTT) --once --again \
		|| { code=$$?; test $$code -eq 69 && echo 'Annotated; the messages are kept until a broker answers (run `make run` again then).' || exit $$code; }

check: env  ## lint, types, import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: env  ## put the code in its one form
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

# What the tests use of the system: installed as root on Debian, else said in one line.
system-packages:
	@$(PYTHON) -m tests.system_packages

# Most tests wait for brokers and folders much of the time, so lots side by side fill two cores.
RUNS := parts faults tools $(if $(OLD_PYTHON),tflite)
test:  ## the checks and all tests in lots side by side, one of them on tflite-runtime; last what was left out
	@rm -rf $(LEFT_OUT)
	@EDGEANNOT_LEFT_OUT=$(LEFT_OUT) $(MAKE) --no-print-directory -k -j6 --output-sync=target $(RUNS:%=test-%) check; code=$$?; \
		$(BIN)/python -m tests.left_out $(LEFT_OUT) parts faults tools tflite; \
		$(if $(OLD_PYTHON),,echo 'The run `tflite` needs Python 3.11, which is not here';) exit $$code

# Three processes, so that both cores have work when the lots of one process have ended.
test-parts: env system-packages  ## the tests of the parts and of the whole command
	EDGEANNOT_TEST_RUN=parts $(BIN)/python -m pytest -n 3 --dist worksteal --ignore=tests/faults --ignore=tests/tools --ignore=tests/fuzz

test-tools: env system-packages  ## the tests of the tools and of the fuzzer
	EDGEANNOT_TEST_RUN=tools $(BIN)/python -m pytest tests/tools tests/fuzz

$(SERVICE_ROOT)/.ready: RELEASE := bookworm
$(SERVICE_ROOT_13)/.ready: RELEASE := trixie
$(SERVICE_ROOT)/.ready $(SERVICE_ROOT_13)/.ready:
	rm -rf $(@D)
	mkdir -p $(@D)
	mmdebstrap --mode=root --variant=minbase --include=systemd,systemd-sysv,libnss-systemd,dbus,python3,python3-venv,mosquitto,mosquitto-clients,passwd,sshfs,openssh-sftp-server $(RELEASE) $(@D)
	touch $@

# All that `pip install .` and pipx need on Debian 12 and 13, for a container without an index of packages.
$(WHEELS)/.ready: pyproject.toml | env
	rm -rf $(WHEELS)
	$(BIN)/python -m pip wheel -q --no-deps -w $(WHEELS) .
	for version in 3.11 3.13; do $(BIN)/python -m pip download -q -d $(WHEELS) --only-binary=:all: --python-version $$version \
		$(WHEELS)/edgeannot-*.whl hatchling pip setuptools pipx || exit 1; done
	touch $@

DEB = $(BIN)/python -m edgeannot_maintain.deb --arch $(or $(ARCH),amd64) --python $(or $(DEB_PYTHON),3.11)
deb: env  ## build a Debian package into dist/; ARCH=arm64 or armhf, DEB_PYTHON=3.13 for Debian 13
	$(DEB)

ARM_FILES := python3,libpython3-stdlib,libstdc++6,libgcc-s1,libc-bin,dash,coreutils,zlib1g,libglib2.0-0
$(ARM)/.ready:
	rm -rf $(ARM)
	mkdir -p $(ARM)
	mmdebstrap --mode=root --variant=extract --arch=arm64 --include=$(ARM_FILES) bookworm $(ARM)/arm64 $(if $(MIRROR),"$(MIRROR)")
	mmdebstrap --mode=root --variant=extract --arch=armhf --include=$(ARM_FILES),python3-numpy,python3-opencv,libopenblas0-pthread bookworm $(ARM)/armhf $(if $(MIRROR),"$(MIRROR)")
	touch $@

arm: env system-packages $(ARM)/.ready  ## probe, a picture and a message on emulated arm64 and armhf (root; mmdebstrap, qemu-user-static; MIRROR, QEMU)
	rm -f $(ARM)/*.deb
	$(BIN)/python -m edgeannot_maintain.deb --arch arm64 --out $(ARM)
	$(BIN)/python -m edgeannot_maintain.deb --arch armhf --out $(ARM)
	PATH=$(if $(QEMU),$(QEMU):)$$PATH EDGEANNOT_ARM=$(CURDIR)/$(ARM) $(BIN)/python -m pytest tests/service/test_arm.py -m service

constraints: env  ## write the wheel and a file of versions and hashes for a fleet into dist/; ARCH, DEB_PYTHON as for deb
	$(BIN)/python -m edgeannot_maintain.constraints --arch $(or $(ARCH),amd64) --python $(or $(DEB_PYTHON),3.11)

deb-test: env $(SERVICE_ROOT)/.ready  ## install, upgrade, downgrade and purge the package in a fresh Debian 12 (root)
	rm -rf .cache/deb
	$(DEB) --out .cache/deb/old
	$(DEB) --out .cache/deb/new --version $$($(BIN)/python -c 'import edgeannot; print(edgeannot.__version__)').1
	EDGEANNOT_SERVICE_ROOT=$(CURDIR)/$(SERVICE_ROOT) EDGEANNOT_DEB=$(CURDIR)/.cache/deb $(BIN)/python -m pytest tests/service/test_deb.py tests/service/test_takeover.py -m service

service-test: env system-packages $(SERVICE_ROOT)/.ready $(SERVICE_ROOT_13)/.ready $(WHEELS)/.ready  ## the service in a real systemd, booted in a container (root; systemd-container, mmdebstrap)
	EDGEANNOT_SERVICE_ROOT=$(CURDIR)/$(SERVICE_ROOT) EDGEANNOT_SERVICE_ROOT_13=$(CURDIR)/$(SERVICE_ROOT_13) EDGEANNOT_WHEELS=$(CURDIR)/$(WHEELS) \
		$(BIN)/python -m pytest tests/service -m "service or not service"

container-test: env $(SERVICE_ROOT)/.ready $(WHEELS)/.ready  ## build the image on a local base and annotate a picture in it (root; buildah, mmdebstrap)
	EDGEANNOT_SERVICE_ROOT=$(CURDIR)/$(SERVICE_ROOT) EDGEANNOT_WHEELS=$(CURDIR)/$(WHEELS) $(BIN)/python -m pytest tests/service/test_container.py -m "service or not service"

# What the machine's Python, Debian's 3.11, needs of the package index to read a camera.
CAMERA_WHEELS := numpy opencv-python-headless pydantic pydantic-settings simplejpeg inotify-simple imagesize paho-mqtt
$(CAMERA_ROOT)/.ready:
	rm -rf $(CAMERA_ROOT)
	mkdir -p $(@D)
	mmdebstrap --mode=root --variant=minbase --include=systemd,systemd-sysv,udev,kmod,python3,linux-image-amd64,initramfs-tools,v4l-utils bookworm $(CAMERA_ROOT)
	$(BIN)/python -m pip install -q --target $(CAMERA_ROOT)/opt/site --python-version 3.11 --implementation cp --abi cp311 --abi abi3 --abi none \
		--platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 --only-binary=:all: $(CAMERA_WHEELS)
	touch $@

.PHONY: camera-test
camera-test: env $(CAMERA_ROOT)/.ready  ## a V4L2 camera unplugged and plugged in again, in a virtual machine (root; mmdebstrap, qemu-system-x86, e2fsprogs)
	EDGEANNOT_CAMERA_ROOT=$(CURDIR)/$(CAMERA_ROOT) $(BIN)/python -m pytest tests/camera -m camera -s

test-faults: env system-packages  ## the short form of the faults
	EDGEANNOT_TEST_RUN=faults $(BIN)/python -m pytest tests/faults

test-tflite: env-tflite system-packages  ## those of the runtime on tflite-runtime, and those that need this older environment
	EDGEANNOT_TEST_RUN=tflite EDGEANNOT_RUNTIME=tflite-runtime $(OLD_BIN)/python -m pytest -m "(runtime or older) and not long"

$(ONNX_VENV)/.ready:
	$(if $(NEW_PYTHON),,$(error onnx2tf needs Python 3.12 or later: make converters-test NEW_PYTHON=...))$(NEW_PYTHON) -m venv $(ONNX_VENV)
	$(ONNX_VENV)/bin/python -m pip install -q 'onnx2tf>=2.6'
	touch $@

$(KERAS_VENV)/.ready:
	$(PYTHON) -m venv $(KERAS_VENV)
	$(KERAS_VENV)/bin/python -m pip install -q 'tensorflow-cpu>=2.16'
	touch $@

$(QUANTIZER_VENV)/.ready:
	$(PYTHON) -m venv $(QUANTIZER_VENV)
	$(QUANTIZER_VENV)/bin/python -m pip install -q litert-quantizer
	touch $@

converters-test: env $(ONNX_VENV)/.ready $(KERAS_VENV)/.ready $(QUANTIZER_VENV)/.ready  ## the tests of onnx2tf, TensorFlow and other quantizers (3 GB)
	$(BIN)/python -m edgeannot_maintain.bundle --only efficientnet-lite0 --out .cache/converted
	EDGEANNOT_ONNX2TF=$(CURDIR)/$(ONNX_VENV)/bin/onnx2tf EDGEANNOT_TENSORFLOW=$(CURDIR)/$(KERAS_VENV)/bin/python \
		EDGEANNOT_LITERT_QUANTIZER=$(CURDIR)/$(QUANTIZER_VENV)/bin/python $(BIN)/python -m pytest tests/tools tests/e2e -m converters

$(FORMATS_VENV)/.ready:
	$(PYTHON) -m venv $(FORMATS_VENV)
	$(FORMATS_VENV)/bin/python -m pip install -q supervision pycocotools labelImg label-studio-converter
	touch $@

formats-test: env $(FORMATS_VENV)/.ready  ## written sets opened by labelImg, supervision, pycocotools and Label Studio's converter (800 MB)
	EDGEANNOT_FORMAT_READERS=$(CURDIR)/$(FORMATS_VENV)/bin/python $(BIN)/python -m pytest tests/formats -m formats

$(PAGE_VENV)/.ready:
	$(PYTHON) -m venv $(PAGE_VENV)
	$(PAGE_VENV)/bin/python -m pip install -q playwright axe-playwright-python
	touch $@

page-test: env $(PAGE_VENV)/.ready  ## the live page in Debian's chromium, and pictures of it in .cache/page/ (root installs chromium; 150 MB)
	@command -v chromium >/dev/null || apt-get -qq -o DPkg::Lock::Timeout=300 install -y --no-install-recommends chromium fonts-dejavu-core
	EDGEANNOT_PAGE_DRIVER=$(CURDIR)/$(PAGE_VENV)/bin/python $(BIN)/python -m pytest tests/page -m page

$(HOMEASSISTANT_VENV)/.ready:
	$(if $(HOMEASSISTANT_PYTHON),,$(error Home Assistant needs Python 3.13: make homeassistant-test HOMEASSISTANT_PYTHON=...))$(HOMEASSISTANT_PYTHON) -m venv $(HOMEASSISTANT_VENV)
	$(HOMEASSISTANT_VENV)/bin/python -m pip install -q 'homeassistant==2025.4.*' paho-mqtt==2.1.0
	touch $@

homeassistant-test: env system-packages $(HOMEASSISTANT_VENV)/.ready  ## the documented automations in a real Home Assistant (600 MB)
	EDGEANNOT_HOMEASSISTANT=$(CURDIR)/$(HOMEASSISTANT_VENV)/bin/python $(BIN)/python -m pytest tests/homeassistant -m homeassistant

faults: env system-packages  ## break everything round the daemon and print what was lost; TABLE=FILE also writes that there
	FAULTS_TABLE=$(TABLE) $(BIN)/python -m pytest tests/faults -m "long or not long"

long: env system-packages $(if $(OLD_PYTHON),env-tflite)  ## the largest networks and the most repeats, on both runtimes
	@$(BIN)/python -m pytest --ignore=tests/faults -m long; code=$$?; \
		$(if $(OLD_PYTHON),EDGEANNOT_RUNTIME=tflite-runtime $(OLD_BIN)/python -m pytest --ignore=tests/faults -m "(long and (runtime or older)) or runtime_long" || code=1;) exit $$code

COUNT ?= 5000
FUZZ = -m tests.fuzz $(DOOR) --count $(COUNT) $(SEED:%=--seed %) $(MINUTES:%=--minutes %)
fuzz: env system-packages $(if $(OLD_PYTHON),env-tflite)  ## spoiled models, pictures, settings ... on both runtimes; DOOR, SEED, COUNT, MINUTES
	@$(BIN)/python $(FUZZ); code=$$?; \
		$(if $(OLD_PYTHON),EDGEANNOT_RUNTIME=tflite-runtime $(OLD_BIN)/python $(FUZZ) || code=1;) exit $$code

models: $(MODELS_VENV)/.ready  ## rebuild every bundled model from its published weights, byte for byte
	$(MODELS_VENV)/bin/python -m edgeannot_maintain.bundle

micro: env  ## rebuild the two little networks of the micro-benchmark, byte for byte
	$(BIN)/python -m edgeannot_maintain.micro

docs: env  ## write the generated pages of docs/ and docs/architecture.png
	$(BIN)/python -m tests.docs_pages
	$(BIN)/python -m benchmarks.structure --draw docs/architecture.png >/dev/null

$(SITE_VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(SITE_VENV)
	$(SITE_VENV)/bin/python -m pip install -q 'pip>=25.1'
	$(SITE_VENV)/bin/python -m pip install -q --group site
	touch $@

site: $(SITE_VENV)/.ready  ## make a website of docs/ in out/site, for a browser without a network; a link that leads nowhere fails
	$(SITE_VENV)/bin/mkdocs build --strict --quiet

rule: env  ## measure and write docs/rule.md and its plot (needs the test data; root for shares of a core)
	$(BIN)/python -m benchmarks.rule

bench: env  ## measure edgeannot beside other programs, each in an environment of its own, into docs/performance.md
	$(BIN)/python -m benchmarks.compare --prepare --page
	$(BIN)/python -m benchmarks.peers.stages --prepare --page
	$(BIN)/python -m benchmarks.engines --prepare --page

soak: env  ## run 20,000 of 200,000 pictures through the daemon, beside a ledger of 5,000,000 rows, and see whether memory or rate drift
	$(BIN)/python -m benchmarks.footprint.soak

structure: env  ## count modules, rooms, arrows; REF=REVISION compares with that one
	@$(BIN)/python -m benchmarks.structure $(if $(REF),$(REF) .)

$(TRACKING_VENV)/.ready:
	$(PYTHON) -m venv $(TRACKING_VENV)
	$(TRACKING_VENV)/bin/python -m pip install -q trackeval 'supervision==0.25.1' pydantic
	touch $@

.PHONY: tracking
# The detectors that look at the videos; another card may be named, as one of a data directory's models/.
CARDS ?= models/nanodet-g.toml models/ssdlite-mobilenet-v2-coco.toml models/yolov3-tiny.toml
tracking: env $(TRACKING_VENV)/.ready  ## measure tracking and events on composed scenes and videos, beside supervision's ByteTrack, by TrackEval (600 MB)
	rm -rf .cache/tracking
	$(BIN)/python -m benchmarks.tracking.detections .cache/tracking $(CARDS)
	$(TRACKING_VENV)/bin/python -m benchmarks.tracking --found .cache/tracking

wheel: env  ## build the wheel into dist/
	$(BIN)/python -m pip wheel -q --no-deps -w dist .

clean:  ## remove environments, caches and outputs
	rm -rf $(VENV) $(OLD_VENV) $(MODELS_VENV) $(ONNX_VENV) $(KERAS_VENV) $(QUANTIZER_VENV) $(PAGE_VENV) $(HOMEASSISTANT_VENV) $(FORMATS_VENV) $(SITE_VENV) .cache out dist build
