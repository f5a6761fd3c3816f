#!/bin/sh
# Run a command on a kernel with project quotas, which this machine's may lack: Debian's
# user-mode Linux, whose root is this machine's file system.
#
#   scripts/vm.sh install
#   scripts/vm.sh run COMMAND [ARG...]
#
# The command runs as root, in this directory, with an ext4 file system of its own in
# TMPDIR that is mounted with prjquota, its own /dev, /proc, /run and loopback interface,
# and no way out. What it writes elsewhere it writes on this machine. The exit code is the
# command's.
set -eu

top=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)

say() { echo "vm: $*" >&2; }
usage() { sed -n '2,/^set -eu/s/^# \{0,1\}//p' "$0" >&2; exit 2; }

install() { "$top/scripts/apt.sh" user-mode-linux e2fsprogs busybox-static; }

# quoted prints its arguments as the shell reads them.
quoted() {
    for word; do
        printf "'%s' " "$(printf %s "$word" | sed "s/'/'\\\\''/g")"
    done
}

run() {
    dir=$(mktemp -d "${TMPDIR:-/tmp}/valise-vm-XXXXXX")
    machine=
    trap '[ -z "$machine" ] || kill "$machine" 2>/dev/null || :; rm -rf --one-file-system "$dir"' EXIT
    trap 'exit 130' INT TERM
    mkdir "$dir/fs"
    truncate -s 1G "$dir/disk"
    mkfs.ext4 -q -O quota,project -E quotatype=prjquota,lazy_itable_init=1 "$dir/disk"
    modules=$(for name in quota_tree quota_v2 overlay fuse; do find /usr/lib/uml/modules -name "$name.ko"; done)
    cat >"$dir/init" <<EOT
#!/bin/sh
export PATH=$(quoted "$PATH") TMPDIR='$dir/fs'
{
    mount -t proc proc /proc && mount -t sysfs sys /sys && { mountpoint -q /dev || mount -t devtmpfs dev /dev; } &&
        mount -t tmpfs run /run &&
        for module in $(echo $modules); do busybox insmod \$module || exit; done &&
        mount -o prjquota /dev/ubda '$dir/fs' && busybox ip link set lo up && cd $(quoted "$PWD") &&
        (ulimit -n 65536; $(quoted "$@"))
    echo \$? >'$dir/code'
} </dev/null >'$dir/out' 2>&1
umount '$dir/fs'
busybox poweroff -f
EOT
    chmod +x "$dir/init"
    : >"$dir/out"
    timeout -k 5 "${VM_TIMEOUT:-600}" linux.uml mem=1G ubd0="$dir/disk" rootfstype=hostfs rootflags=/ rw init="$dir/init" \
        con=null con0=null,fd:1 quiet </dev/null >"$dir/console" 2>&1 &
    machine=$!
    tail -n +1 -f --pid=$machine "$dir/out"
    [ -f "$dir/code" ] || { tail -n 20 "$dir/console" >&2; say "the machine ended before the command did"; exit 1; }
    exit "$(cat "$dir/code")"
}

[ $# -ge 1 ] || usage
verb=$1
shift
case $verb in
install) install ;;
run) [ $# -ge 1 ] || usage; run "$@" ;;
*) usage ;;
esac
