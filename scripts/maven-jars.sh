#!/bin/sh
# Fetches a server that the tests run, once, and prints the folder of its jars as the last line of standard output.
#
#   scripts/maven-jars.sh kafka|s3 [--check]
#
# --check fetches nothing: it prints the folder, and fails where the jars are not there.
# Where: ${XDG_CACHE_HOME:-$HOME/.cache}/llm-optimizer-processor/<server>-<version>/libs, server and version being those
# of the property in tests/kafka/pom.xml or tests/s3/pom.xml. What it does goes to standard error.
set -eu

of="${1:-}"
case "$of" in
    kafka) name="Apache Kafka" size="130 MB" who="the Kafka tests need" ;;
    s3) name=S3Mock size="60 MB" who="the tests of object stores need" ;;
    *) echo "usage: scripts/maven-jars.sh kafka|s3 [--check]" >&2; exit 2 ;;
esac

say() { echo "maven-jars: $*" >&2; }

here=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
pom="$here/tests/$of/pom.xml"
folder=$(sed -n 's:.*<\([a-z0-9]*\)\.version>\(.*\)</\1\.version>.*:\1-\2:p' "$pom")
[ -n "$folder" ] || { say "no version of the server in $pom"; exit 1; }
name="$name ${folder#*-}"
home="${XDG_CACHE_HOME:-$HOME/.cache}/llm-optimizer-processor/$folder"
libs="$home/libs"
# Written last, so that a download that was cut short is not taken for a whole one.
complete="$home/complete"

need() {
    command -v "$1" >/dev/null 2>&1 && return 0
    say "'$1' is not installed; $who it: apt-get install $2"
    exit 1
}

need java openjdk-17-jre-headless
if [ -f "$complete" ]; then
    echo "$libs"
    exit 0
fi
if [ "${2:-}" = --check ]; then
    say "$name is not in $libs; run scripts/maven-jars.sh $of"
    exit 1
fi
need mvn maven

say "fetching $name through Maven into $libs (about $size, once)"
part="$home/libs.part.$$"
trap 'rm -rf "$part"' EXIT INT TERM
mkdir -p "$part"
if ! mvn -q -B -f "$pom" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$part" >&2; then
    say "Maven could not fetch $name (its message is above)"
    say "is Maven Central, or a mirror in ~/.m2/settings.xml, reachable?"
    exit 1
fi
# Two runs at once both fetch; the first to finish wins, and the jars are the same.
if [ ! -f "$complete" ]; then
    rm -rf "$libs"
    mv "$part" "$libs"
    : >"$complete"
fi
say "$name is in place, in $libs"
echo "$libs"
