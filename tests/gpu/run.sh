#!/bin/sh
# Run the trainer and a tagger on the GPU, and write a table: gpu.md and gpu.jsonl.
#   tests/gpu/run.sh [FOLDER] [--cpu] [--minutes N] [--only TEXT]
# FOLDER is $OUT if it is not given, else build/gpu. PYTHON names the interpreter whose torch is used.
# --cpu runs every row on tiny random models.
set -e
cd "$(dirname "$0")/../.."
export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1
exec "${PYTHON:-python3}" -m tests.gpu "$@"
