#!/bin/sh
# Install the Debian packages that are missing; a daemon in one is not started.
#
#   scripts/apt.sh PACKAGE...
set -eu

missing=
for package; do
    dpkg-query -W -f '${Status}\n' "$package" 2>/dev/null |
        grep -q ' installed$' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
echo "apt-get install$missing" >&2
policy=/usr/sbin/policy-rc.d
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if [ ! -e $policy ]; then
    trap 'rm -f "$log" $policy' EXIT
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod 755 $policy
fi
# shellcheck disable=SC2086 # a list of words
{ apt-get -q update && DEBIAN_FRONTEND=noninteractive \
    apt-get -q -y --no-install-recommends install $missing; } \
    >"$log" 2>&1 </dev/null || { cat "$log" >&2; exit 1; }
