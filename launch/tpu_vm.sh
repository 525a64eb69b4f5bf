#!/usr/bin/env bash
# One run on all hosts of a Cloud TPU slice, with stndt_jax[tpu] installed in FOLDER/.venv.
#
#   TPU=my-slice ZONE=us-central2-b FOLDER=stndt_jax launch/tpu_vm.sh \
#       --config=mc_maze --config.population=64 --config.data.path=/mnt/data/mc_maze.h5 \
#       --workdir=/mnt/runs/maze
#
# The hosts find each other. --workdir must be on a file system that all of them share. After a
# preemption the same command resumes. DRY_RUN=1 prints the command.
set -euo pipefail

: "${TPU:?"set TPU to the name of the TPU"}" "${ZONE:?"set ZONE to its zone"}"
printf -v arguments '%q ' "$@"
run=(gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all
    --command="cd ${FOLDER:-stndt_jax} && STNDT_HOSTS=auto .venv/bin/stndt train $arguments")

if [[ ${DRY_RUN:-} == 1 ]]; then
    printf '%s\n' "${run[@]}"
    exit
fi
exec "${run[@]}"
