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

# What the tests depend on must not ask for another libc than the program does: that would be a second RocksDB.
features_of_libc() { cargo tree ${CI:+--locked} -p librocksdb-sys -e "$1" --prefix none -f '{p} {f}' | grep '^libc ' | sort -u; }
if [ "$(features_of_libc normal)" != "$(features_of_libc normal,dev)" ]; then
    echo "lint: with the tests' dependencies libc has other features: RocksDB would be built twice. See libc in Cargo.toml" >&2
    exit 1
fi
echo "lint: cargo deny" >&2
install_deny
cargo deny --log-level error check bans licenses sources
check_advisories
echo "lint: what the image is built of" >&2
scripts/deploy-check.sh
echo "lint: all is well"
