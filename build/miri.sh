#!/usr/bin/env bash
# Runs the shared memory tests under miri, where a rustup nightly has it; Debian's toolchain does not.
set -eu
if command -v rustup >/dev/null && rustup +nightly component list --installed 2>/dev/null | grep -q '^miri'; then
  # MIRIFLAGS: proptest looks for its regressions in the file system.
  MIRIFLAGS=-Zmiri-disable-isolation exec env -u RUSTC cargo +nightly miri test --package bsp --lib shared_memory
fi
echo "miri is in no toolchain here: rustup toolchain install nightly --component miri rust-src"
