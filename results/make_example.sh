#!/bin/sh
# What results/example/ holds, from a run: sh results/make_example.sh RUN. The run itself, which takes minutes on two cores:
#   nas search --space resnext --dataset digits --trials 100 --epochs 10 --baseline resnet20 --executor local --out RUN
# Images need `pip install 'nas[images]'` and Chrome or Chromium.
set -eu
run=$1
out=$(dirname "$0")/example
mkdir -p "$out/front"
nas report "$run" --format csv --out "$out"
nas report "$run" --format md --out "$out/report.md"
for figure in accuracy-params edf marginals; do
  nas report "$run" --format png --figure "$figure" --out "$out/$figure.png"
done
cp "$run/run.yaml" "$out/"
cp "$run"/front/*.yaml "$out/front/"
nas export "$run" --top 1 --format python --out "$out/best.py" --force
