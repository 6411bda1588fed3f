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
cd "$(dirname "$0")/.."

folder=runs/accelerator
quick=()
for argument in "$@"; do
  case $argument in
    --quick) quick=(--quick) ;;
    -*)
      echo "There is no option $argument: give a folder, --quick, or nothing." >&2
      exit 1
      ;;
    *) folder=$argument ;;
  esac
done
limit=${ACCELERATOR_SECONDS:-480}
# The table itself takes a few.
reserve=15

mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$folder/programs}
lines=$folder/lines.jsonl
: >"$lines"
failed=0

# measure NAME MODULE ARGUMENTS...: adds the lines of a benchmark.
measure() {
  local name=$1 module=$2 left=$((limit - reserve - SECONDS))
  shift 2
  if ((left < 10)); then
    echo "$name: left out, the $limit seconds are over." >&2
    failed=1
    return
  fi
  if ! timeout "$left" python -m "benchmarks.$module" "$@" ${quick[@]+"${quick[@]}"} \
    >"$folder/$name.jsonl" 2>"$folder/$name.log"; then
    echo "$name: failed or out of time; $folder/$name.log says why." >&2
    failed=1
  else
    echo "$name: done after $SECONDS s."
  fi
  # What was printed before it ended counts.
  cat "$folder/$name.jsonl" >>"$lines"
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

python -m benchmarks.rows --lines="$lines" >"$folder/rows.md" || exit 1
cat "$folder/rows.md"
exit $failed
