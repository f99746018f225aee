#!/usr/bin/env bash
# Run a sweep as a job of a Ray cluster; the job is named after the spec's file.
#   RAY_API_SERVER_ADDRESS=http://127.0.0.1:8265 ./submit.sh sweep.yaml [/shared/sweeps/name]
set -euo pipefail
spec=$1
name=$(basename "$spec" .yaml)
out=${2:-/shared/sweeps/$name}
file=$(basename "$spec")
# A second submission of the same name goes on with the sweep; Ray wants a new id for it. The job
# moves to the sweep's own directory: Ray may clear the working directory while it runs.
exec ray job submit \
  --submission-id "$name-$(date +%s)" \
  --metadata-json "{\"job_name\": \"$name\"}" \
  --working-dir "$(dirname "$spec")" \
  -- bash -c "mkdir -p $out && cp $file $out/submitted.yaml && cd $out && \
     isoskill run submitted.yaml --set cluster.address=auto --out ."
