# The environment of every build; sourced by the scripts beside it.
# shellcheck shell=bash

# One folder for all builds of this project, outside the checkout, so that a clean checkout does not build RocksDB again.
cache_home="${XDG_CACHE_HOME:-$HOME/.cache}/llm-optimizer-processor"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$cache_home/target}"

# Debian's ccache answers under the compilers' names.
if [ -d /usr/lib/ccache ]; then
    case ":$PATH:" in
        *:/usr/lib/ccache:*) ;;
        *) export PATH="/usr/lib/ccache:$PATH" ;;
    esac
fi

# Says how long it will take, where RocksDB has not been built in this profile (debug or release).
announce_cold_build() {
    local profile=$1
    compgen -G "$CARGO_TARGET_DIR/$profile/build/librocksdb-sys-*/out/librocksdb.a" >/dev/null && return 0
    echo "first build ($profile): about 20 minutes on 2 cores, most of it RocksDB's C++ (one step that stays on" \
        "'librocksdb-sys' for long); later builds take seconds. In $CARGO_TARGET_DIR" >&2
}
