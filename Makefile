# make demo | test | lint | package | translations | env | clean, on Debian or Ubuntu; the first call also sets everything up.
# The tools run in the system's Python, which QGIS's bindings belong to, never in the first python3 on the PATH.

PYTHON := /usr/bin/python3 -I -B
FRAMEWORKS ?= all,cluster
EPOCHS ?=

.PHONY: demo test lint package translations env clean system test-engine test-qgis test-process test-desktop test-nightly

test: system
	$(PYTHON) tools/make.py test --frameworks $(FRAMEWORKS)

test-engine test-qgis test-process test-desktop test-nightly: test-%: system
	$(PYTHON) tools/make.py test $* --frameworks $(FRAMEWORKS)

lint: system
	$(PYTHON) tools/make.py lint --frameworks $(FRAMEWORKS)

demo: system
	$(PYTHON) demo/run.py $(if $(EPOCHS),--epochs $(EPOCHS))

package: system
	$(PYTHON) tools/make.py package

translations:
	$(PYTHON) tools/make.py translations

env: system
	$(PYTHON) tools/make.py env --frameworks $(FRAMEWORKS)

clean:
	$(PYTHON) tools/make.py clean

system:
	@tools/system.sh
