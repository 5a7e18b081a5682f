#!/usr/bin/env bash
# Installs those of the named Debian packages that are missing; says nothing when none is.
set -euo pipefail
# One at a time, as apt wants it. Servers that a package starts must not keep the lock: hence 9>&-.
exec 9<"$0"
flock 9
missing=()
for package in "$@"; do
    dpkg-query --show --showformat='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0
if ! command -v apt-get >/dev/null; then
    echo "setup: install what these Debian packages hold, then run again: ${missing[*]}" >&2
    exit 1
fi
echo "setup: apt-get install ${missing[*]}"
as_root=()
[ "$(id -u)" = 0 ] || as_root=(sudo)
"${as_root[@]}" apt-get update -qq 9>&-
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null 9>&-
