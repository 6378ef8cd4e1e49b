#!/bin/bash
# All tests, and one plain line at the end that says how many passed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/env.sh

scripts/maven-jars.sh kafka >/dev/null
scripts/maven-jars.sh s3 >/dev/null
announce_cold_build debug

log=$(mktemp)
trap 'rm -f "$log"' EXIT
started=$SECONDS
status=0
cargo test ${CI:+--locked} --no-fail-fast "$@" 2>&1 | tee "$log" || status=$?

counts=$(awk '/^test result:/ { passed += $4; failed += $6; ignored += $8; suites++ }
    END { printf "%d passed, %d failed, %d ignored in %d suites", passed, failed, ignored, suites }' "$log")
echo
grep -E '^test .* \.\.\. FAILED$' "$log" | sort -u || true
if [ "$status" -eq 0 ]; then
    echo "tests: $counts, $((SECONDS - started)) s: all is well"
else
    echo "tests: $counts, $((SECONDS - started)) s: FAILED (cargo's exit code $status)"
fi
exit "$status"
