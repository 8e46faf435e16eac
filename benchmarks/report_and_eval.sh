#!/usr/bin/env bash
# The long forms of the evaluation's numbers: page of 10 sequences x 4 codecs x 4 rates, memory over the frames.
set -euo pipefail
cd "$(dirname "$0")/.."
python -m pytest -m slow -s tests/report tests/quality/test_eval.py -k "ten_sequences or memory"
