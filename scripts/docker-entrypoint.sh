#!/bin/bash
# Starts the processor in the image as a user without rights.
#
# Docker makes the host's side of a mounted folder as root's. So the container begins as root, hands /var/lib/optimizer to the
# user `optimizer` where it is still root's, and gives up its rights for good. Started with --user or runAsUser, it changes
# nothing and runs as that user.
set -euo pipefail

data=/var/lib/optimizer
if [ "$(id -u)" -eq 0 ]; then
    for folder in "$data" "$data/state" "$data/checkpoints"; do
        mkdir -p "$folder"
        if [ "$(stat -c %u "$folder")" -eq 0 ]; then
            chown optimizer:optimizer "$folder"
        fi
    done
    export HOME="$data"
    exec setpriv --reuid=optimizer --regid=optimizer --init-groups --no-new-privs --bounding-set=-all --inh-caps=-all \
        /usr/local/bin/processor "$@"
fi
exec /usr/local/bin/processor "$@"
