#!/bin/bash
# Takes the steps of the Dockerfile's last stage on a Debian made by debootstrap, and runs the result as `docker run` would: for
# machines without Docker. Needs root, debootstrap, Debian's mirror, and a binary that was built (release, else debug).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/env.sh

say() { echo "docker-dry-run: $*" >&2; }
fail() { say "$*"; exit 1; }

[ "$(id -u)" -eq 0 ] || fail "only root may make a Debian"
command -v debootstrap >/dev/null || fail "debootstrap is missing: apt-get install debootstrap"
# Mounts of its own, which end with it.
[ "${1:-}" = --inside ] || exec unshare --mount --pid --fork --kill-child "$0" --inside

for profile in release debug; do
    binary="$CARGO_TARGET_DIR/$profile/processor"
    [ ! -x "$binary" ] || break
done
[ -x "$binary" ] || fail "there is no binary in $CARGO_TARGET_DIR: run make build"

work=$(mktemp -d)
root="$work/root"
process=''
end() {
    local mounted
    [ -z "$process" ] || kill -KILL "$process" 2>/dev/null || true
    for mounted in var/lib/optimizer proc dev; do umount --recursive --lazy "$root/$mounted" 2>/dev/null || true; done
    rm -rf --one-file-system "$work"
}
trap end EXIT

say "a Debian (as debian:...-slim has it)"
debootstrap --variant=minbase bookworm "$root" >"$work/log" 2>&1 || { tail -n 5 "$work/log" >&2; fail "debootstrap failed"; }
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"

# The instructions of the last stage, each on one line.
steps=$(awk '/^FROM / { steps = ""; next } /^#/ { next } { steps = steps $0 "\n" } END { printf "%s", steps }' Dockerfile |
    sed -e ':more' -e '/\\$/ { N; s/\\\n//; b more }')
variables=(PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin)
entry='' command='' healthcheck=''
while read -r word rest; do
    case "$word" in
        RUN)
            say "RUN ${rest:0:60}..."
            env -i "${variables[@]}" DEBIAN_FRONTEND=noninteractive chroot "$root" /bin/sh -c "$rest" >"$work/log" 2>&1 ||
                { tail -n 5 "$work/log" >&2; fail "the step failed"; }
            ;;
        COPY)
            read -r source target <<<"${rest#--from=build }"
            case "$source" in /out/processor) install -D -s -m 755 "$binary" "$root$target" ;; *) install -D "$source" "$root$target" ;; esac
            ;;
        ENV) variables+=("$rest") ;;
        ENTRYPOINT) entry=$rest ;;
        CMD) command=$rest ;;
        HEALTHCHECK) healthcheck=${rest#*CMD } ;;
        ARG | LABEL | WORKDIR | VOLUME | EXPOSE | STOPSIGNAL | '') ;;
        *) fail "unknown instruction $word" ;;
    esac
done <<<"$steps"

# The words of a JSON list, each ended by NUL.
words() { sed -e 's/^ *\[ *"//' -e 's/" *\]$//' -e 's/" *, *"/\n/g' -e 's/\\\\/\\/g' -e 's/\\"/"/g' <<<"$1" | tr '\n' '\0'; }
mapfile -d '' -t check < <(words "$healthcheck")
mapfile -d '' -t start < <(words "$entry"; words "$command")

# A run with this user, as `docker run --user` has it; the mounted folder is this one's at first.
run() {
    local user=$1 owner=$2 data="$work/data-${1%:*}" status
    mkdir -p "$data" "$root/var/lib/optimizer"
    chown "$owner" "$data"
    mount --bind "$data" "$root/var/lib/optimizer"
    env -i "${variables[@]}" PROCESSOR_METRICS__LISTEN=127.0.0.1:18080 \
        chroot --userspec="$user" "$root" "${start[@]}" >"$work/out" 2>&1 &
    process=$!
    for _ in $(seq 100); do
        env -i "${variables[@]}" PROCESSOR_METRICS__LISTEN=127.0.0.1:18080 chroot "$root" "${check[@]}" 2>/dev/null && break
        kill -0 "$process" 2>/dev/null || { cat "$work/out" >&2; fail "it ended"; }
        sleep 0.2
    done
    env -i "${variables[@]}" PROCESSOR_METRICS__LISTEN=127.0.0.1:18080 chroot "$root" "${check[@]}" || fail "the health check fails"
    # What it is by now, and may do.
    grep -q '^Uid:.10001.10001.10001.10001$' "$root/proc/$process/status" || fail "it is not the user 10001"
    grep -q '^CapEff:.0000000000000000$' "$root/proc/$process/status" || fail "it has capabilities"
    kill -TERM "$process"
    status=0
    wait "$process" || status=$?
    process=''
    [ "$status" -eq 0 ] || { cat "$work/out" >&2; fail "it ended with $status"; }
    [ "$(stat -c %u "$data" "$data/state" "$data/checkpoints" | sort -u)" = 10001 ] || fail "its folders are not its own"
    umount "$root/var/lib/optimizer"
}

say "docker run -v /var/lib/optimizer:/var/lib/optimizer"
run 0:0 0
say "docker run --user 10001"
run 10001:10001 10001
say "all is well; the image's files take $(du -smx "$root" | cut -f1) MB"
