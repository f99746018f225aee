#!/usr/bin/env bash
# Run a sweep as a job of a Ray cluster; the job is named after the spec's file.
#   RAY_API_SERVER_ADDRESS=http://127.0.0.1:8265 ./submit.sh sweep.yaml [/shared/sweeps/name]
set -euo pipefail
spec=$1
name=$(basename "$spec" .yaml)
out=${2:-/shared/sweeps/$name}
# A second submission of the same name goes on with the sweep; Ray wants a new id for it.
exec ray job submit \
  --submission-id "$name-$(date +%s)" \
  --metadata-json "{\"job_name\": \"$name\"}" \
  --working-dir "$(dirname "$spec")" \
  -- isoskill run "$(basename "$spec")" --set cluster.address=auto --out "$out"
