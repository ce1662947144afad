#!/usr/bin/env bash
#SBATCH --job-name=nas
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --gpus-per-node=8
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
# A search over all GPUs of a Slurm allocation: sbatch docs/cluster/slurm.sh RUN [options of nas search]
# RUN is a folder on a file system that all nodes see. If it already holds a run (a requeued job, a second submission), the
# run is resumed and the options are ignored.
set -euo pipefail

run=${1:?usage: sbatch slurm.sh RUN [options of nas search]}
shift
port=$((20000 + SLURM_JOB_ID % 20000))
mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
address=$(srun --nodes=1 --ntasks=1 -w "$head" hostname --ip-address | awk '{print $1}')

# One token for this job, readable by its user alone, on the shared file system.
umask 077
export RAY_AUTH_MODE=token
export RAY_AUTH_TOKEN_PATH="$HOME/.ray/token-$SLURM_JOB_ID"
mkdir -p "$HOME/.ray"
python3 -c 'import secrets; print(secrets.token_hex(32), end="")' > "$RAY_AUTH_TOKEN_PATH"
trap 'rm -f "$RAY_AUTH_TOKEN_PATH"' EXIT

start=(ray start --block --include-dashboard=false --num-cpus="$SLURM_CPUS_PER_TASK")
srun --nodes=1 --ntasks=1 -w "$head" "${start[@]}" --head --node-ip-address="$address" --port="$port" &
for _ in $(seq 60); do
  if (exec 3<>"/dev/tcp/$address/$port") 2>/dev/null; then break; fi
  sleep 2
done
if ((${#nodes[@]} > 1)); then
  srun --nodes=$((${#nodes[@]} - 1)) --ntasks=$((${#nodes[@]} - 1)) --exclude="$head" "${start[@]}" --address="$address:$port" &
fi

# The driver runs on the head node, next to Ray. Nodes that join later are used, too.
if [[ -f $run/run.yaml ]]; then
  search=(nas resume "$run" --address "$address:$port")
else
  search=(nas search --out "$run" --address "$address:$port" "$@")
fi
srun --overlap --nodes=1 --ntasks=1 -w "$head" "${search[@]}" &
driver=$!
# Two minutes before the time limit, Slurm signals this shell: the driver stops at once, and the job is requeued.
stop() {
  kill -TERM "$driver" 2>/dev/null || true
  wait "$driver" || true
  scontrol requeue "$SLURM_JOB_ID"
}
trap stop TERM
wait "$driver"
