#!/bin/sh
# Lays out the managed plugin's root file system: the binary, and a place for
# each mount of ../config.json and of dockerd. The same binary gives the same
# tree, to the mode and time of each file.
#
#   rootfs/make.sh DEST BINARY
set -eu

[ $# = 2 ] || { sed -n '2,/^set -eu/s/^# \{0,1\}//p' "$0" >&2; exit 2; }
dest=$1 binary=$2

umask 022
rm -rf "$dest"
mkdir -p "$dest"
for dir in dev etc/valise host/lib host/run mnt mounts proc run/docker/plugins sys; do
    mkdir -p "$dest/$dir"
done
mkdir -m 1777 "$dest/tmp"
install -m 755 "$binary" "$dest/valise"
find "$dest" -exec touch -h -d @0 {} +
