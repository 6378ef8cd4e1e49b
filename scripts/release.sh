#!/bin/bash
# Builds the release binary and puts it at target/release/processor, where the documentation has it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/env.sh

scripts/cargo.sh build --release --locked --bin processor
mkdir -p target/release
built="$CARGO_TARGET_DIR/release/processor"
if [ ! "$built" -ef target/release/processor ]; then
    install -m 755 "$built" target/release/processor.new
    mv target/release/processor.new target/release/processor
fi
echo "built: ./target/release/processor"
