#!/bin/bash
# Plants each bug of simulator/tests/faults/planted in a copy of this commit, and says which seed finds it first.
# Usage: build/planted-bugs.sh [SEEDS [BUG…]]
set -euo pipefail
cd "$(dirname "$0")/.."
eval "$(build/toolchain.sh)"
seeds=${1:-1000}
shift || true
copy=$(mktemp -d)
trap 'git worktree remove --force "$copy"' EXIT
git worktree add --quiet --detach "$copy" HEAD
bugs=("$@")
[ ${#bugs[@]} -gt 0 ] || bugs=($(basename -s .patch simulator/tests/faults/planted/*.patch))
# The copy has a target folder of its own, so that no build of the real tree is mistaken for one of a bug.
export CARGO_TARGET_DIR=${PLANTED_TARGET_DIR:-$copy/target} RUST_BACKTRACE=0
for bug in "${bugs[@]}"; do
  git -C "$copy" checkout --quiet .
  git -C "$copy" apply "$PWD/simulator/tests/faults/planted/$bug.patch"
  said=$(cd "$copy" && FIRST=0 SEEDS=$seeds cargo test --release --quiet --package simulator --test faults \
    -- --ignored --nocapture soak 2>&1 || true)
  failed=$(grep -oE "^[0-9]+ of [0-9]+ seeds failed: \[[0-9]+" <<<"$said" || true)
  why=$(grep -A1 -m1 "panicked at" <<<"$said" | tail -1 || true)
  echo "$bug: ${failed:-not found in $seeds seeds} … $why"
done
