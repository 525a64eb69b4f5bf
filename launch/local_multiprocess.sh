#!/usr/bin/env bash
# Several processes on this machine that train as one, as several hosts would.
#
#   launch/local_multiprocess.sh 2 stndt train --config=mc_maze --workdir=runs/maze ...
#
# Process i gets GPU i, unless CUDA_VISIBLE_DEVICES is set. On CPUs give each some devices with
# XLA_FLAGS=--xla_force_host_platform_device_count=4. SIGTERM and SIGINT are passed on to all of them:
# they save, and the same command resumes. DRY_RUN=1 prints the commands.
set -euo pipefail

processes=${1:?"give the number of processes"}
shift
export STNDT_PROCESSES=$processes
export STNDT_COORDINATOR=${STNDT_COORDINATOR:-localhost:$((20000 + RANDOM % 10000))}

if [[ ${DRY_RUN:-} == 1 ]]; then
    for ((i = 0; i < processes; i++)); do
        echo "STNDT_COORDINATOR=$STNDT_COORDINATOR STNDT_PROCESSES=$processes STNDT_PROCESS=$i $*"
    done
    exit
fi

pids=()
stopping=0
trap 'stopping=1; kill -TERM "${pids[@]}" 2>/dev/null || true' TERM INT
for ((i = 0; i < processes; i++)); do
    CUDA_VISIBLE_DEVICES=${CUDA_VISIBLE_DEVICES:-$i} STNDT_PROCESS=$i "$@" &
    pids+=($!)
done
# The signal may have come between two of them.
if ((stopping)); then
    kill -TERM "${pids[@]}" 2>/dev/null || true
fi

# A signal interrupts wait, so repeat it until the process has ended.
code=0
for pid in "${pids[@]}"; do
    one=0
    wait "$pid" || one=$?
    while kill -0 "$pid" 2>/dev/null; do
        one=0
        wait "$pid" || one=$?
    done
    ((code == 0)) && code=$one
done
exit "$code"
