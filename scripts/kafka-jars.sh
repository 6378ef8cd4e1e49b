#!/bin/sh
# Fetches the Apache Kafka that the tests run, once, and prints the folder of its jars as the last line of standard output.
#
#   scripts/kafka-jars.sh [--check]
#
# --check fetches nothing: it prints the folder, and fails where the jars are not there.
# Where: ${XDG_CACHE_HOME:-$HOME/.cache}/llm-optimizer-processor/kafka-<version>/libs, the version being the one in
# tests/kafka/pom.xml. What it does goes to standard error.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
pom="$here/tests/kafka/pom.xml"
version=$(sed -n 's:.*<kafka.version>\(.*\)</kafka.version>.*:\1:p' "$pom")
[ -n "$version" ] || { echo "kafka-jars: no <kafka.version> in $pom" >&2; exit 1; }
home="${XDG_CACHE_HOME:-$HOME/.cache}/llm-optimizer-processor/kafka-$version"
libs="$home/libs"
# Written last, so that a download that was cut short is not taken for a whole one.
complete="$home/complete"

need() {
    command -v "$1" >/dev/null 2>&1 && return 0
    echo "kafka-jars: '$1' is not installed; the Kafka tests need it: apt-get install $2" >&2
    exit 1
}

need java openjdk-17-jre-headless
if [ -f "$complete" ]; then
    echo "$libs"
    exit 0
fi
if [ "${1:-}" = --check ]; then
    echo "kafka-jars: Apache Kafka $version is not in $libs; run scripts/kafka-jars.sh" >&2
    exit 1
fi
need mvn maven

echo "kafka-jars: fetching Apache Kafka $version through Maven into $libs (about 130 MB, once)" >&2
part="$home/libs.part.$$"
trap 'rm -rf "$part"' EXIT INT TERM
mkdir -p "$part"
if ! mvn -q -B -f "$pom" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$part" >&2; then
    echo "kafka-jars: Maven could not fetch Apache Kafka $version (its message is above); is Maven Central, or a mirror in ~/.m2/settings.xml, reachable?" >&2
    exit 1
fi
# Two runs at once both fetch; the first to finish wins, and the jars are the same.
if [ ! -f "$complete" ]; then
    rm -rf "$libs"
    mv "$part" "$libs"
    : >"$complete"
fi
echo "kafka-jars: Apache Kafka $version is in place: $(ls "$libs" | wc -l) jars" >&2
echo "$libs"
