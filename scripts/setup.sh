#!/bin/bash
# Installs what the build needs and this machine lacks; with --tests, what the tests need too. Says nothing where all is there.
#
# On Debian and its relatives, as root or with sudo that asks no password, it installs. Elsewhere it says in one line what is
# missing and how to get it, and fails.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { echo "setup: $*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }

# The C interface that bindgen loads; libclang-cpp, which comes with compilers, is another library.
has_libclang() {
    [ -n "${LIBCLANG_PATH:-}" ] && return 0
    local folder
    for folder in '/usr/lib/llvm-*/lib' '/usr/lib*' '/usr/lib/*-linux-gnu'; do
        compgen -G "$folder/libclang.so*" >/dev/null && return 0
        compgen -G "$folder/libclang-[0-9]*.so*" >/dev/null && return 0
    done
    return 1
}

has_openssl() { have pkg-config && pkg-config --exists openssl; }

# The major version of the Java on the path; 0 without one.
java_version() {
    have java || { echo 0; return; }
    local major
    major=$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1)
    echo "${major:-0}"
}

check_cargo() {
    if ! have cargo; then
        say "cargo is not installed: get it from https://rustup.rs, then run this again"
        exit 1
    fi
    local answer
    if ! answer=$(cargo --version 2>&1); then
        local channel
        channel=$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)
        say "the Rust toolchain $channel is not installed: run 'rustup toolchain install $channel --profile minimal --component rustfmt,clippy'"
        say "cargo said: ${answer%%$'\n'*}"
        exit 1
    fi
}

# The Debian packages that are missing, one a line.
missing() {
    if ! have c++ || ! have make; then echo build-essential; fi
    has_libclang || echo libclang-dev
    have pkg-config || echo pkg-config
    has_openssl || echo libssl-dev
    # Not needed; with it a second build of the same C++, such as another profile's, reuses what the first compiled.
    have ccache || echo ccache
    if [ "${1:-}" = --tests ]; then
        [ "$(java_version)" -ge 17 ] || echo java
        have mvn || echo maven
        # The README's commands, which the tests run.
        have curl || echo curl
    fi
}

install_packages() {
    local as_root=("$@")
    "${as_root[@]}" apt-get update -qq || say "apt-get update failed; trying with the package lists that are here"
    local name names=()
    for name in $packages; do
        if [ "$name" = java ]; then
            name=default-jre-headless
            [ -z "$(apt-cache madison openjdk-17-jre-headless 2>/dev/null)" ] || name=openjdk-17-jre-headless
        fi
        names+=("$name")
    done
    say "installing ${names[*]}"
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${names[@]}" >&2
}

check_cargo
packages=$(missing "${1:-}" | tr '\n' ' ')
[ -n "$packages" ] || exit 0

by_hand="apt-get install ${packages/java/openjdk-17-jre-headless}"
if ! have apt-get; then
    say "missing: $packages- install them with your system's package manager (Debian's names: $by_hand)"
elif [ "$(id -u)" -eq 0 ]; then
    install_packages
elif have sudo && sudo -n true 2>/dev/null; then
    install_packages sudo
else
    say "missing: $packages- run 'sudo $by_hand' once"
fi

left=$(missing "${1:-}" | grep -v '^ccache$' | tr '\n' ' ' || true)
if [ -n "$left" ]; then
    ! have apt-get || [ "$(id -u)" -ne 0 ] || say "still missing: $left- see what apt-get said above"
    exit 1
fi
