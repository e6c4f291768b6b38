#!/usr/bin/env bash
# Installs what `make run` (argument: run), `make test` (test) or `make bench` (bench) lacks, by package name, on Debian
# as root; elsewhere says in one sentence what to install.
set -eu

cd "$(dirname "$0")/.."

# The newest lld that the compiler's own LLVM matches; Debian's rustc-web of now links with this one.
toolchain=(rustc-web cargo-web rust-web-src rust-web-llvm rust-web-clippy rustfmt-web lld-22)
pages=(nodejs npm)
data=(dataset-fashion-mnist)
browser=(chromium chromium-driver)
# With the products that Debian's PyTorch is quick by; without them it is no fair peer.
pytorch=(python3-torch libopenblas0-pthread)

# Debian's needs both packages; another one may bring its products along.
has_pytorch() {
  if dpkg-query -W python3-torch >/dev/null 2>&1; then
    dpkg-query -W libopenblas0-pthread >/dev/null 2>&1
  else
    /usr/bin/python3 -c 'import torch' 2>/dev/null
  fi
}

# Which of these are missing, by their use rather than by the package manager that installed them.
missing=()
build/toolchain.sh >/dev/null 2>&1 || missing+=("${toolchain[@]}")
command -v cc >/dev/null || missing+=(gcc libc6-dev)
command -v node >/dev/null && command -v npm >/dev/null || missing+=("${pages[@]}")
[ -e /usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz ] || missing+=("${data[@]}")
if [ "${1:-run}" != run ]; then
  command -v chromium >/dev/null && command -v chromedriver >/dev/null || missing+=("${browser[@]}")
fi
if [ "${1:-run}" = bench ] && ! has_pytorch; then
  # A peer that can't be had is left out, so this is no reason to stop.
  if command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ]; then
    missing+=("${pytorch[@]}")
  else
    echo "superstep measures PyTorch too where there are, by their Debian names, ${pytorch[*]}; here it is left out" >&2
  fi
fi
[ ${#missing[@]} -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
  echo "superstep lacks, by their Debian names: ${missing[*]}; install them, or run this as root on Debian 12" >&2
  exit 1
fi
echo "installing: ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# Without a flush to the disk after each of the few hundred packages that npm brings.
if ! apt-get install -y -qq --no-install-recommends --no-remove -o Dpkg::Options::=--force-unsafe-io "${missing[@]}" \
  >"$log" 2>&1; then
  tail -n 5 "$log" >&2
  advice="where Debian's own rustc, cargo or rustup packages are in the way, remove them first"
  echo "superstep could not install ${missing[*]}: $advice" >&2
  exit 1
fi
