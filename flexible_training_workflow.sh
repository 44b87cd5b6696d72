#!/bin/sh
# The old workflow's entry:
#
#   ./flexible_training_workflow.sh --offline-mode --raw-data /path/to/data --config-file scripts/config/tiny.yaml
#
# It finds a Python and passes every word on to run_direct_training.py, which says what they mean.
# With --offline-mode the variables that the Hugging Face libraries read are set here already, so that they stand before
# the first line of Python; the rest of an offline launch (proxies, tokens, caches, the guard) is set up there.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
for word in "$@"; do
    if [ "$word" = --offline-mode ]; then
        export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 HF_DATASETS_OFFLINE=1
    fi
done

# The Python that PYTHON names, else that of the repository's environment, else the one on the path.
if [ -z "${PYTHON:-}" ]; then
    PYTHON=$here/.venv/bin/python
    [ -x "$PYTHON" ] || PYTHON=python3
fi
exec "$PYTHON" "$here/run_direct_training.py" "$@"
