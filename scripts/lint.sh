#!/bin/bash
# Formatting, clippy with warnings as errors, and the dependencies' licences, sources and advisories.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/env.sh

deny_version=0.20.2

install_deny() {
    cargo deny --version 2>/dev/null | grep -qxF "cargo-deny $deny_version" && return 0
    echo "lint: installing cargo-deny $deny_version into ${CARGO_HOME:-$HOME/.cargo}/bin (some minutes, once)" >&2
    CARGO_TARGET_DIR="$cache_home/tools" cargo install --quiet --locked "cargo-deny@$deny_version"
    rm -rf "$cache_home/tools"
}

# The advisories come from GitHub. Without them the other checks still count.
check_advisories() {
    local said
    if said=$(timeout 120 cargo deny --log-level error fetch db 2>&1); then
        cargo deny --log-level error check --disable-fetch advisories
    else
        echo "lint: the advisory database cannot be fetched (${said##*$'\n'}): advisories not checked" >&2
    fi
}

echo "lint: cargo fmt" >&2
cargo fmt --all --check
echo "lint: cargo clippy" >&2
announce_cold_build debug
cargo clippy ${CI:+--locked} --workspace --all-targets -- -D warnings
echo "lint: cargo deny" >&2
install_deny
cargo deny --log-level error check bans licenses sources
check_advisories
echo "lint: all is well"
