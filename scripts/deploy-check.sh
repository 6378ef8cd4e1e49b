#!/bin/bash
# The steps of Dockerfile and deploy/ that can be taken without Docker, systemd and a cluster, and need packages or a compiler. What
# needs neither is in tests/cli/deploy. A tool that is not here is named, and what it would look at is left out.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/env.sh

say() { echo "deploy-check: $*" >&2; }
fail() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1 && return 0; say "$1 is not here: $2"; return 1; }

# The packages that a stage of the Dockerfile installs, by the stage's number from 1.
packages() {
    awk -v wanted="$1" '/^FROM / { stage++ } stage == wanted' Dockerfile |
        sed -n 's/.*install -y --no-install-recommends \(.*\) \\$/\1/p'
}

# Debian's release of the image, and of this machine.
image_release=$(sed -n 's/^ARG DEBIAN_IMAGE=debian:\([0-9]*\)\..*/\1/p' Dockerfile)
[ -n "$image_release" ] || fail "the Dockerfile does not say which Debian it is of"
here=$(. /etc/os-release 2>/dev/null && [ "${ID:-}" = debian ] && echo "${VERSION_ID:-}") || true

check_packages() {
    if [ "$here" != "$image_release" ]; then
        say "this is not Debian $image_release: the image's packages and libraries are not compared"
        return 0
    fi
    local name
    for name in $(packages 1) $(packages 2); do
        if [ -z "$(apt-cache madison "$name" 2>/dev/null)" ] && ! dpkg -s "$name" >/dev/null 2>&1; then
            # New machines have no lists.
            if [ -n "$(apt-cache madison bash 2>/dev/null)" ]; then fail "Debian $image_release has no package $name"; fi
            say "no package lists here: whether there is a package $name is not looked at"
        fi
    done
}

# Each library that the binary loads must be of a package that the last stage installs, or of one that every Debian has.
check_libraries() {
    local binary=$1 library owner installed
    [ "$here" = "$image_release" ] || return 0
    installed=" $(packages 2) libc6 libgcc-s1 "
    for library in $(ldd "$binary" | sed -n 's/.* => \(\/[^ ]*\).*/\1/p'); do
        owner=$(dpkg -S "$library" "$(readlink -f "$library")" "/usr$library" 2>/dev/null | head -n 1 | cut -d: -f1) || true
        [ -n "$owner" ] || fail "$library is of no package"
        case "$installed" in *" $owner "*) ;; *) fail "$binary loads $library of $owner, which the image lacks" ;; esac
    done
}

# What Docker would be sent, as .dockerignore has it: all that is not shut out is named there.
context() {
    local target=$1 pattern
    while read -r pattern; do
        case "$pattern" in
            '!'*) git ls-files -z -- "${pattern#!}" | tar -c --null -T - | tar -x -C "$target" ;;
            '' | '#'* | '*' | '**/*.swp') ;;
            *) fail ".dockerignore: $pattern: this script reads lines that name what is sent" ;;
        esac
    done <.dockerignore
}

compile_context() {
    # Always the same place, so that Cargo knows it again.
    local folder="$CARGO_TARGET_DIR/docker-context"
    rm -rf "$folder"
    mkdir -p "$folder"
    context "$folder"
    # A check: it compiles all that the build compiles, and makes no second binary in the folder of builds.
    (cd "$folder" && cargo check --quiet --locked --bin processor)
}

say "packages and libraries"
check_packages
for profile in release debug; do
    [ ! -x "$CARGO_TARGET_DIR/$profile/processor" ] || check_libraries "$CARGO_TARGET_DIR/$profile/processor"
done
say "the sources that Docker is sent"
announce_cold_build debug
compile_context
say "scripts and manifests"
bash -n scripts/docker-entrypoint.sh
if have hadolint "the Dockerfile is not linted"; then
    # Versions of packages are Debian's: those of a release get security fixes alone.
    hadolint --ignore DL3008 Dockerfile
fi
if have kubectl "the manifests are not put together"; then
    kubectl kustomize deploy/kubernetes >/dev/null
fi
say "all is well"
