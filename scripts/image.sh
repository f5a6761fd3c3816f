#!/bin/sh
# Makes the small image of the demo and the tests in an engine, without a
# registry: a tree around Debian's busybox-static, all applets linked, with
# root and a user `user` (uid 1000, home /home/kasm-user).
#
#   scripts/image.sh SOCKET [NAME]
#
# SOCKET is what engine.sh start prints; NAME is valise-demo/desktop:latest.
set -eu

[ $# -ge 1 ] || { sed -n '2,/^set -eu/s/^# \{0,1\}//p' "$0" >&2; exit 2; }
socket=$1 name=${2:-valise-demo/desktop:latest}

busybox=$(command -v busybox) || { echo "image: install busybox-static" >&2; exit 1; }
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT

mkdir -p "$tree/bin" "$tree/etc" "$tree/proc" "$tree/sys" "$tree/dev" \
    "$tree/root" "$tree/home/kasm-user"
mkdir -m 1777 "$tree/tmp"
chmod 755 "$tree"
install -m 755 "$busybox" "$tree/bin/busybox"
for applet in $("$busybox" --list); do
    [ "$applet" = busybox ] || ln -s busybox "$tree/bin/$applet"
done
cat >"$tree/etc/passwd" <<EOT
root:x:0:0:root:/root:/bin/sh
user:x:1000:1000:user:/home/kasm-user:/bin/sh
EOT
cat >"$tree/etc/group" <<EOT
root:x:0:
user:x:1000:
EOT
chown 1000:1000 "$tree/home/kasm-user"

tar -C "$tree" --numeric-owner -c . |
    docker -H "$socket" import \
        --change 'ENV PATH=/bin' --change 'ENV HOME=/home/kasm-user' \
        --change 'WORKDIR /home/kasm-user' --change 'CMD ["sh"]' \
        - "$name" >/dev/null
