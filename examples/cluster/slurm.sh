#!/usr/bin/env bash
# A sweep on Slurm: one Ray node per Slurm node, the driver on the first.
#   sbatch slurm.sh sweep.yaml [/shared/sweeps/name]
#SBATCH --job-name=isoskill
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=96
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@120   # two minutes to write checkpoints before the time limit
#SBATCH --requeue             # and the same job goes on afterwards
#SBATCH --open-mode=append
set -euo pipefail
spec=$1
out=${2:-$PWD/sweeps/$(basename "$spec" .yaml)}
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$HOME/.ray/auth_token
ray get-auth-token --generate >/dev/null

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
address=$(srun --nodes=1 --ntasks=1 -w "$head" hostname --ip-address | awk '{print $1}'):6379

srun --nodes=1 --ntasks=1 -w "$head" ray start --head --node-ip-address="${address%:*}" \
  --port=6379 --block &
sleep 20
for node in "${nodes[@]:1}"; do
  srun --nodes=1 --ntasks=1 -w "$node" ray start --address="$address" --block &
done
sleep 20

# Slurm's TERM reaches this shell: pass it on, wait for the driver's orderly stop, and have the job
# started again.
asked=""
trap 'asked=1; kill -TERM $!' TERM
isoskill run "$spec" --set cluster.address="$address" --out "$out" &
driver=$!
wait $driver && code=0 || { wait $driver && code=0 || code=$?; }
if [ -n "$asked" ] && [ "$code" = 130 ]; then  # 130: stopped, and not finished
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
