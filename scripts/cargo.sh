#!/bin/bash
# cargo with this project's environment; says so when a long first build is ahead.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/env.sh

profile=debug
case "${1:-}" in bench) profile=release ;; esac
for argument in "$@"; do
    [ "$argument" != -- ] || break
    [ "$argument" != --release ] || profile=release
done
announce_cold_build "$profile"
exec cargo "$@"
