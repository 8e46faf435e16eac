#!/usr/bin/env bash
# Everything that wants a GPU, in calls of ten minutes that go on from what they left in OUT.
#
#     benchmarks/gpu.sh OUT tests                     the tests that another device changes
#     benchmarks/gpu.sh OUT exact FOLDER              streams of exact_device.py in FOLDER -> OUT/there.json
#     benchmarks/gpu.sh OUT speed                     pixels a second of training -> OUT/gpu_speed.json
#     benchmarks/gpu.sh OUT bench                     a training step: float32, bf16, compiled; both P-frame codecs
#     benchmarks/gpu.sh OUT train light-l [MINUTES]   the next stretch of a recipe, on DATA (default runs/data/train360)
#
# WHEELS=DIR installs the packages that Python lacks from that folder, without network, into SITE; torch, numpy, numba,
# scipy and accelerate are taken as they are. DEVICE=cpu tries all of it without a GPU. OUT/train-NAME comes back to be continued.
set -euo pipefail
out=$(mkdir -p "$1" && cd "$1" && pwd); part=$2
cd "$(dirname "$0")/.."
device=${DEVICE:-cuda} python=${PYTHON:-python3}
site=${SITE:-/tmp/dcvc-wheels}
if [ -n "${WHEELS:-}" ] && [ ! -d "$site" ]; then
  $python -m pip install -q --no-index --no-deps --no-compile --target "$site" "$WHEELS"/*.whl
fi
export PYTHONPATH="$PWD:$PWD/benchmarks${WHEELS:+:$site}${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
dcvc() { $python -W ignore -m dcvc.cli "$@"; }

case $part in
tests)
  DCVC_TEST_DEVICE=$device $python -m pytest -q -p no:cacheprovider tests/test_devices.py 2>&1 | tee "$out/tests.txt"
  ;;
exact)
  $python -W ignore benchmarks/exact_device.py there "$3" --device "$device" --out "$out/there.json"
  ;;
speed)
  $python -W ignore benchmarks/gpu_speed.py --device "$device" --out "$out/gpu_speed.json" ${SPEED:-}
  ;;
bench)
  for codec in dcvc2021 light; do
    for form in "no" "bf16" "bf16 --compile"; do
      # On a CPU, one short form shows that the script works.
      [ "$device" = cpu ] && [ "$form" != no ] && continue
      file="$out/bench_${codec}_${form// --/_}.json"
      [ -s "$file" ] || { dcvc bench train --codec $codec --mixed_precision $form --device "$device" \
        --repeats "${REPEATS:-5}" ${BENCH:-} --json > "$file.part" && mv "$file.part" "$file"; }
    done
  done
  ;;
train)
  name=$3 minutes=${4:-9}
  # SIGTERM saves; the same command goes on in the next call, with the folder that came back.
  timeout --signal TERM --kill-after 60 "$((minutes * 60))" $python -W ignore -m dcvc.cli train --recipe "$name" \
    --train_video_dir "${DATA:-runs/data/train360}" --val_video_dir "${VAL:-runs/data/val288}" --device "$device" \
    --checkpoint_dir "$out/train-$name" --sampling on_bad_video=skip --num_workers "${WORKERS:-8}" --quiet ${SET:+--set $SET} \
    || [ $? = 124 ] || [ -s "$out/train-$name/recipe.json" ]
  find "$out/train-$name" -name metrics.jsonl -exec tail -n 1 {} \;
  ;;
*)
  echo "gpu.sh: found $part, needed tests, exact, speed, bench or train" >&2
  exit 2
  ;;
esac
