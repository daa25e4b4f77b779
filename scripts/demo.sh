#!/usr/bin/env bash
# The whole path on the built-in data: prepare → train → eval → export → predict, into the folder given (demo).
# What is already there is kept, so it can be stopped and run again. `make demo` installs everything first.
set -euo pipefail
folder=${1:-demo}
data=$folder/data

say() { printf '\n$ %s\n' "$*"; "$@"; }

# A run that is there already goes on where it was stopped, or is found finished.
train() {
  local run=$1
  shift
  if [ -f "$run/settings.toml" ]; then
    say ga2clip train --resume "$run"
  else
    say ga2clip train --dataset stickfigures --root "$data" --shots 16 --out "$run" "$@"
  fi
}

say ga2clip prepare --dataset stickfigures --root "$data"
train "$folder/zero-shot" --method zero-shot
train "$folder/ga2" --method ga2
train "$folder/recommended" --method recommended
say ga2clip eval "$folder/zero-shot" "$folder/ga2" "$folder/recommended"
say ga2clip export "$folder/recommended"
# A clip of a class that was tuned on, among those classes; one of a class that was not, among all forty names.
say ga2clip predict "$data/videos/riding_a_bike/test_000.mp4" --model "$folder/recommended/bundle" --top 3
ls "$data/videos" | tr _ ' ' > "$folder/labels.txt"
say ga2clip predict "$data/videos/balancing_a_ball/test_000.mp4" --model "$folder/recommended/bundle" --classes "$folder/labels.txt" --top 3
