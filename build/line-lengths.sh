#!/usr/bin/env bash
# Finds lines of more than 120 columns in code, comments and documents; `make lint` calls it. With --count it says how
# many each folder has.
set -eu

cd "$(dirname "$0")/.."
export LC_ALL=C.UTF-8

# Not lock files, data, or what programs write: tables of simulations and measurements, curves, pictures.
files() {
  git ls-files -- '*.rs' '*.js' '*.ts' '*.css' '*.html' '*.toml' '*.md' '*.sh' '*.py' Makefile \
    ':!docs/simulations/[a-z]*.md' ':!docs/measurements/2*.md'
}

# Rows of a table in Markdown can't be wrapped.
too_long() {
  files | xargs grep -nHP '^.{121,}$' | grep -vP '^[^:]*\.md:\d+:\s*\|' || true
}

found=$(too_long)
[ -z "$found" ] && exit 0
if [ "${1:-}" = --count ]; then
  cut -d: -f1 <<<"$found" | cut -d/ -f1 | sort | uniq -c
else
  cut -c1-160 <<<"$found" >&2
  echo "lines end at 120 columns: wrap the $(wc -l <<<"$found") above" >&2
fi
exit 1
