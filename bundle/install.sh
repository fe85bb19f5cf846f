#!/bin/sh
# Installs Millrace from this bundle. It needs Python and nothing else, no network least of all.
# Usage: ./install.sh [--to FOLDER]     (default: ~/millrace)
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
wanted=$(cat "$here/python-version")
for python in ${PYTHON:-"python$wanted" python3 python}; do
    if found=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2> /dev/null) && [ "$found" = "$wanted" ]; then
        exec env PYTHONPATH="$here" "$python" -B -m installer "$here" "$@"
    fi
done
echo "install: this bundle needs Python $wanted, which was not found; PYTHON=/path/to/python names one" >&2
exit 1
