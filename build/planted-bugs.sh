#!/bin/bash
# Plants each bug of simulator/tests/faults/planted in a copy of this commit, and says which seeds find it.
# Usage: build/planted-bugs.sh [SEEDS [BUG…]]
set -euo pipefail
cd "$(dirname "$0")/.."
eval "$(build/toolchain.sh)"
seeds=${1:-1000}
shift || true
# The copy has a target folder of its own, so that no build of the real tree is mistaken for one with a bug.
copy=$PWD/target/planted/tree
export CARGO_TARGET_DIR=$PWD/target/planted/target RUST_BACKTRACE=0
git worktree prune
[ -d "$copy" ] || git worktree add --quiet --detach "$copy" HEAD
git -C "$copy" checkout --quiet --force --detach "$(git rev-parse HEAD)"
bugs=("$@")
[ ${#bugs[@]} -gt 0 ] || mapfile -t bugs < <(basename -s .patch simulator/tests/faults/planted/*.patch)
for bug in "${bugs[@]}"; do
  git -C "$copy" checkout --quiet .
  git -C "$copy" apply "$PWD/simulator/tests/faults/planted/$bug.patch"
  said=$(cd "$copy" && FIRST=0 SEEDS=$seeds cargo test --release --quiet --package simulator --test faults \
    -- --ignored --nocapture soak 2>&1 || true)
  failed=$(grep -oE "^[0-9]+ of [0-9]+ seeds failed: \[[0-9]+" <<<"$said" || echo "no seed of $seeds finds it")
  why=$(grep -A1 -m1 "panicked at" <<<"$said" | tail -1 || true)
  echo "$bug: ${failed/: \[/, the first is } … $why"
done
git worktree remove --force "$copy"
