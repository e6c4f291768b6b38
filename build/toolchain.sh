#!/usr/bin/env bash
# Prints the shell settings that select the one toolchain; says in one sentence what to install where there is none, or
# where it is older than the `rust-version` of Cargo.toml.
set -eu

debian_sources=/usr/lib/rustlib/src/rust/library/std/Cargo.toml
if [ -x /usr/bin/cargo ] && [ -e "$debian_sources" ] && dpkg-query -W rustc-web >/dev/null 2>&1; then
  # Before any rustup toolchain in a home directory: two compilers would rebuild each other's target/.
  settings='export PATH="/usr/bin:$PATH" RUSTC=/usr/bin/rustc RUSTDOC=/usr/bin/rustdoc RUSTC_BOOTSTRAP=1'
elif command -v rustup >/dev/null && rustup +nightly component list --installed 2>/dev/null | grep -q '^rust-src'; then
  settings='export RUSTUP_TOOLCHAIN=nightly RUSTC_BOOTSTRAP=1'
else
  packages="rustc-web, cargo-web, rust-web-src, rust-web-llvm and lld"
  nightly="rustup toolchain install nightly --component rust-src clippy rustfmt --target wasm32-unknown-unknown"
  echo "superstep needs Debian's $packages, or a rustup nightly with rust-src ($nightly)" >&2
  exit 1
fi

needed=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$(dirname "$0")/../Cargo.toml")
there=$(eval "$settings" && "${RUSTC:-rustc}" --version | sed 's/^rustc \([0-9.]*\).*/\1/')
if [ "$(printf '%s\n' "$needed" "$there" | sort -V | head -n 1)" != "$needed" ]; then
  advice="upgrade Debian's rustc-web, or rustup update nightly"
  echo "superstep needs Rust $needed or newer, but rustc here is $there: $advice" >&2
  exit 1
fi
echo "$settings"
