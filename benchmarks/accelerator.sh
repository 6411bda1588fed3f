#!/usr/bin/env bash
# Measures on an accelerator, in at most eight minutes, what the pages say of it:
#
#   benchmarks/accelerator.sh [FOLDER] [--quick]
#
# Milliseconds per plan, clips a second of a training step and its share of what
# products reach (MFU), steps a second of the worlds, and SIGReg; in float32 and
# in bfloat16. FOLDER (runs/accelerator) receives lines.jsonl, rows.md (the rows
# of docs/accelerators.md), a log of every command, and XLA's programs, so that
# a second call is faster. What does not fit into the time is left out and said.
set -uo pipefail

# stop SENTENCE: ends, where no result can come.
stop() {
  echo "$1" >&2
  exit 1
}

cd "$(dirname "$0")/.." || stop "The repository of $0 cannot be entered."

folder=runs/accelerator
named=no
quick=()
for argument in "$@"; do
  case $argument in
    --quick) quick=(--quick) ;;
    -*) stop "There is no option $argument: give a folder, --quick, or nothing." ;;
    '') stop "The folder's name is empty: give another, or none for $folder." ;;
    *)
      [[ $named == no ]] || stop "Give one folder, got $folder and $argument."
      folder=$argument
      named=yes
      ;;
  esac
done
limit=${ACCELERATOR_SECONDS:-480}
# The table itself takes a few.
reserve=15
if [[ ! $limit =~ ^[1-9][0-9]{1,5}$ ]] || ((limit < 30)); then
  stop "ACCELERATOR_SECONDS must be a whole number, at least 30, got '$limit'."
fi
for program in python timeout; do
  command -v "$program" >/dev/null \
    || stop "There is no $program here; install it, or activate its environment."
done

said=$(mkdir -p "$folder" 2>&1) \
  || stop "The folder $folder cannot be made (${said##*: }); name another."
path=$(CDPATH='' cd "$folder" 2>/dev/null && pwd) \
  || stop "The folder $folder cannot be entered; name another."
folder=$path
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$folder/programs}
lines=$folder/lines.jsonl
{ : >"$lines"; } 2>/dev/null || stop "$lines cannot be written; name another folder."
failed=0
device=$(python -c 'from jepa_wm import sharding; print(sharding.device_description())') \
  || stop "JAX finds no device; its words are above."
echo "On $device, in at most $limit seconds."

# measure NAME MODULE ARGUMENTS...: adds the lines of a benchmark.
measure() {
  local name=$1 module=$2 left=$((limit - reserve - SECONDS))
  shift 2
  if ((left < 10)); then
    echo "$name: left out, the $limit seconds are over." >&2
    failed=1
    return
  fi
  echo "$name: begins."
  if ! timeout "$left" python -m "benchmarks.$module" "$@" ${quick[@]+"${quick[@]}"} \
    >"$folder/$name.jsonl" 2>"$folder/$name.log"; then
    echo "$name: failed or out of time; $folder/$name.log says why." >&2
    failed=1
  else
    echo "$name: done after $SECONDS s."
  fi
  # What was printed before it ended counts.
  { cat "$folder/$name.jsonl" >>"$lines"; } 2>/dev/null \
    || stop "$lines cannot be written; make room, or name another folder."
}

# What tells most comes first.
for dtype in float32 bfloat16; do
  measure "plan_$dtype" plan_latency --dtype=$dtype
  measure "train_$dtype" train_throughput --dtype=$dtype
done
measure train_bfloat16_auto train_throughput --dtype=bfloat16 --attention=auto
for dtype in float32 bfloat16; do
  measure "sigreg_$dtype" sigreg --dtype=$dtype
done
measure two_room env_throughput --world=two_room
measure push_t env_throughput --world=push_t

table=$(python -m benchmarks.rows --lines="$lines") \
  || stop "There are no rows; what was measured is in $lines."
echo "$table" | tee "$folder/rows.md" \
  || stop "$folder/rows.md cannot be written; make room, or name another folder."
exit $failed
