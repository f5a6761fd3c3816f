#!/bin/sh
# What a profile on S3 costs: valise, rclone mount, s3fs and a plain directory side
# by side, with MinIO 20 ms away; and what a session with one costs, beside one with a
# profile in a directory.
#
#   scripts/bench-s3.sh [--json FILE]
#
# ROWS='untar find'     only some: untar-large untar read first find grep append
#                       unchanged memory mount, and with Docker: login logout hundred
# PEERS='rclone s3fs'   what valise is compared with. Most of the time is theirs:
#                       with both it is over an hour, s3fs needs half of that for
#                       two rows; PEERS= measures valise alone in minutes
# ENGINE=debian         the kind of scripts/engine.sh for these; or current
# RUNS=3                runs of what is short; the median counts
# CORPORA=DIR           keep the trees that are read and written there, and use
#                       those that are there; else they are made anew
# VALISE=PROGRAM        measure this one instead of what is built now
# TMPDIR=/var/tmp       some 15 GB on a local disk
#
# Homes, caches and plain directories are on a new ext4 in a file of that disk. It needs
# root, for mounts and for dropping the kernel's caches. Nothing else should run on the
# machine meanwhile.
set -eu

here=$PWD top=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cd "$top"

say() { echo "== $*" >&2; }
die() { echo "bench: $*" >&2; exit 1; }

json=
case $#,${1-} in
0,) ;;
2,--json)
    case $2 in
    /*) json=$2 ;;
    *) json=$here/$2 ;;
    esac
    ;;
*) sed -n '2,/^set -eu/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
[ "$(id -u)" = 0 ] || die "it needs root"

dir=$(mktemp -d "${TMPDIR:-/var/tmp}/valise-bench.XXXXXX")
bench=''

# left are the processes that have the directory in their arguments.
left() {
    for args in /proc/[0-9]*/cmdline; do
        pid=${args#/proc/}
        pid=${pid%/cmdline}
        [ "$pid" = $$ ] || ! tr '\0' '\n' 2>/dev/null <"$args" | grep -qF -- "$dir/" || echo "$pid"
    done
}

clean() {
    code=$?
    set +e
    trap '' INT TERM HUP PIPE
    [ -z "$bench" ] || { kill "$bench" && wait "$bench"; } 2>/dev/null
    scripts/s3.sh stop "$dir/minio"
    scripts/engine.sh stop "$dir/work/engine"
    for pid in $(left); do kill -KILL "$pid" 2>/dev/null; done
    [ -z "$bench" ] || rm -f "/run/docker/plugins/valise-bench-$bench-"*.sock
    awk -v below="$dir/" 'index($5, below) == 1 { print $5 }' /proc/self/mountinfo | tac |
        while read -r target; do umount -l "$target"; done
    rm -rf --one-file-system "$dir"
    exit $code
}
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
trap 'exit 141' PIPE

say "build, servers and peers"
if [ -z "${VALISE:-}" ]; then
    make --no-print-directory build >"$dir/log" 2>&1 || { cat "$dir/log" >&2; die "make build"; }
fi
cp "${VALISE:-build/valise}" "$dir/valise" # others may build meanwhile
go build -o "$dir/bench" ./bench/s3
scripts/s3.sh install bench
env=$(scripts/s3.sh start "$dir/minio")
eval "$env"
mkdir "$dir/work"
# The disk's own may be of any kind, or without a journal: that one has trouble with
# many new files after many were removed.
truncate -s 30G "$dir/ext4"
mkfs.ext4 -q -E lazy_itable_init=0,lazy_journal_init=0 "$dir/ext4"
mount -o loop "$dir/ext4" "$dir/work"

"$dir/bench" -work "$dir/work" -corpora "${CORPORA:-$dir/corpora}" -bin build/s3/bin -valise "$dir/valise" \
    -endpoint "$S3_ENDPOINT" -data "$dir/minio/data" -runs "${RUNS:-3}" -rows "${ROWS:-}" \
    -peers "${PEERS-rclone s3fs}" -engine "${ENGINE:-debian}" -json "$json" &
bench=$!
wait $bench || { code=$?; bench=; exit $code; }
bench=
