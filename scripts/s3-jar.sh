#!/bin/sh
# Fetches the S3-compatible server that the tests run, once, and prints the path of its jar as the last line of standard output.
#
#   scripts/s3-jar.sh
#
# Where: ${XDG_CACHE_HOME:-$HOME/.cache}/llm-optimizer-processor/s3mock-<version>, the version being the one in tests/s3/pom.xml.
# What it does goes to standard error.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
pom="$here/tests/s3/pom.xml"
version=$(sed -n 's:.*<s3mock.version>\(.*\)</s3mock.version>.*:\1:p' "$pom")
[ -n "$version" ] || { echo "s3-jar: no <s3mock.version> in $pom" >&2; exit 1; }
home="${XDG_CACHE_HOME:-$HOME/.cache}/llm-optimizer-processor/s3mock-$version"
jar="$home/s3mock-$version-exec.jar"

need() {
    command -v "$1" >/dev/null 2>&1 && return 0
    echo "s3-jar: '$1' is not installed; the tests of object stores need it: apt-get install $2" >&2
    exit 1
}

need java openjdk-17-jre-headless
if [ -f "$jar" ]; then
    echo "$jar"
    exit 0
fi
need mvn maven

echo "s3-jar: fetching S3Mock $version through Maven into $home (about 60 MB, once)" >&2
part="$home/part.$$"
trap 'rm -rf "$part"' EXIT INT TERM
mkdir -p "$part"
if ! mvn -q -B -f "$pom" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$part" >&2; then
    echo "s3-jar: Maven could not fetch S3Mock $version (its message is above); is Maven Central, or a mirror in ~/.m2/settings.xml, reachable?" >&2
    exit 1
fi
# Two runs at once both fetch, and the jars are the same; the rename makes each of them whole.
mv "$part/s3mock-$version-exec.jar" "$jar"
echo "$jar"
