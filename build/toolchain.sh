#!/usr/bin/env bash
# Prints the shell settings that select the one toolchain; says in one sentence what to install where there is none.
set -eu

debian_sources=/usr/lib/rustlib/src/rust/library/std/Cargo.toml
if [ -x /usr/bin/cargo ] && [ -e "$debian_sources" ] && dpkg-query -W rustc-web >/dev/null 2>&1; then
  # Before any rustup toolchain in a home directory: two compilers would rebuild each other's target/.
  echo 'export PATH="/usr/bin:$PATH" RUSTC=/usr/bin/rustc RUSTDOC=/usr/bin/rustdoc RUSTC_BOOTSTRAP=1'
elif command -v rustup >/dev/null && rustup +nightly component list --installed 2>/dev/null | grep -q '^rust-src'; then
  echo 'export RUSTUP_TOOLCHAIN=nightly RUSTC_BOOTSTRAP=1'
else
  echo "superstep needs Debian's rustc-web, cargo-web, rust-web-src, rust-web-llvm and lld, or a rustup nightly with rust-src (rustup toolchain install nightly --component rust-src clippy rustfmt --target wasm32-unknown-unknown)" >&2
  exit 1
fi
