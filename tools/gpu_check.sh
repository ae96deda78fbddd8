#!/usr/bin/env bash
# All that needs a GPU, for a machine that has nothing but Python with torch, NumPy, numba and the field's usual packages:
#
#     tools/gpu_check.sh exact    # CUDA tests; five models from the CPU to the GPU and back. May share the GPU.
#     tools/gpu_check.sh speed    # benchmark codec-gpu, alone on the GPU: at most 140 seconds.
#
# The last lines say what holds and what does not; the exit code is 0 where all holds, 1 where something does not, 2 where
# it could not be tried. Nothing is downloaded; only ignored folders of the checkout are written.
#
#     WHEELS=DIR      wheels of what Python lacks (compressai, construct, google-crc32c, platformdirs, safetensors, ...),
#                     and crcmod's unpacked source
#     PYTHON=python3  an interpreter with torch
#     PHOTOS=DIR      PNG photographs; pieces of the bundled sample if there are none
#     FIGURES=DIR     where `speed` draws where the time goes
#     DRY=1           the same on the CPU, small: to see that it would run
set -u
cd "$(dirname "$0")/.." || exit 2
case ${1:-} in exact | speed) ;; *) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 2 ;; esac
python=${PYTHON:-python3}
dry=${DRY:-}
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
export PYTHONPATH="$PWD:$work/site${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
export FIGURES="${FIGURES:-$PWD/build}"
verdicts=()
failed=0

# A verdict for the last lines: what was tried, and the exit code it ended with.
judge() {
    if [ "$2" = 0 ]; then
        verdicts+=("holds: $1")
    else
        verdicts+=("DOES NOT HOLD: $1 (exit code $2)")
        failed=1
    fi
}

stop() {
    echo "gpu_check $1: could not be tried: $2"
    exit 2
}

if [ -n "${WHEELS:-}" ]; then
    "$python" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --disable-pip-version-check \
        --target "$work/site" "$WHEELS"/*.whl || stop "$1" "the wheels in $WHEELS do not install"
    for source in "$WHEELS"/crcmod*/python3; do
        [ -d "$source/crcmod" ] && PYTHONPATH="$PYTHONPATH:$source"
    done
fi
# CompressAI imports it for losses, which only training has.
if ! "$python" -c 'import pytorch_msssim' 2>/dev/null; then
    mkdir -p "$work/site" && echo 'ms_ssim = None' >"$work/site/pytorch_msssim.py"
fi
"$python" -W ignore -c 'import compressai, robuststream.codec' || stop "$1" "a package is missing (see above): name wheels with WHEELS="
if [ -z "$dry" ]; then
    "$python" -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null || stop "$1" "torch finds no CUDA device"
fi
photos=${PHOTOS:-$PWD/../shared/images/kodak}
number=24
[ -n "$dry" ] && number=1
if [ -n "$dry" ] || ! ls "$photos"/*.png >/dev/null 2>&1; then
    side="512, 768"
    [ -n "$dry" ] && side="128, 192"
    PYTHONPATH="$PYTHONPATH:$PWD/tools" "$python" - "$work/photos" $number <<PYTHON || stop "$1" "no photographs can be made"
import sys
from pathlib import Path
from PIL import Image
from bars.common import photographs
folder = Path(sys.argv[1])
folder.mkdir()
for place, pixels in enumerate(photographs(folder, int(sys.argv[2]), $side)):
    Image.fromarray(pixels).save(folder / f"sample{place:02}.png")
PYTHON
    echo "photographs: $number pieces of the bundled sample"
    photos=$work/photos
fi
"$python" -c 'import torch; print(f"torch {torch.__version__},", torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU")'

if [ "$1" = exact ]; then
    device=cuda
    [ -n "$dry" ] && device=cpu
    mapfile -t tests < <(grep -rlE 'mark\.cuda' tests --include='*.py')
    ROBUSTSTREAM_TEST_DEVICE=$device "$python" -W ignore -m pytest -m cuda -p no:cacheprovider "${tests[@]}"
    judge "CUDA tests" $?
    pictures=("$photos"/*.png)
    "$python" -W ignore tools/cross_machine.py devices "${pictures[@]:0:24}" --device $device | tee "$work/devices"
    judge "$(tail -1 "$work/devices")" "${PIPESTATUS[0]}"
else
    "$python" -W ignore -c 'import robuststream, numpy
robuststream.decode(robuststream.encode(numpy.zeros((64, 64, 3), numpy.uint8)))' # compiles the kernels
    timeout 125 "$python" -W ignore tools/benchmark.py codec-gpu --photos "$photos" ${dry:+--small} | tee "$work/speed"
    code=${PIPESTATUS[0]}
    while IFS= read -r line; do
        verdicts+=("$line")
    done < <(grep -E 'holds\)|MISSED\)|skipped' "$work/speed" | sed -E 's/^codec-gpu +//')
    [ "$code" = 124 ] && verdicts+=("time ran out before all was measured")
    [ "$code" = 0 ] || failed=1
fi
echo
echo "gpu_check $1${dry:+, a dry run on the CPU}:"
printf '  %s\n' "${verdicts[@]}"
echo "gpu_check $1: $([ $failed = 0 ] && echo 'all holds' || echo 'NOT all holds')"
exit $failed
