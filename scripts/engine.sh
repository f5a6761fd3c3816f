#!/bin/sh
# One private Docker Engine for the demo, the tests and the benchmarks: its own
# root, socket, containerd and cgroup, no bridge, no iptables, nothing of the
# host changed. Any number of them run side by side.
#
#   scripts/engine.sh install [debian|current]
#   scripts/engine.sh start   [debian|current] DIR [-- DOCKERD-FLAG...]
#   scripts/engine.sh stop    DIR
#   scripts/engine.sh cgroup  DIR
#
# debian   Debian's docker.io (20.10 on Debian 12), never started by Debian
# current  moby, containerd and runc, built by Go into build/engine/bin
#
# start prints the socket's address. After a kill -9 of dockerd, start on the
# same DIR goes on with what it held. stop leaves nothing of it behind; cgroup
# names the one that its containers are in.
# Keep DIR short: a unix socket's path ends at 107 bytes.
set -eu

top=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
bin=$top/build/engine/bin

moby=v2.0.0-beta.24
containerd=v2.4.2
runc=v1.5.2

say() { echo "engine: $*" >&2; }
die() { say "$@"; exit 1; }
usage() { sed -n '2,/^set -eu/s/^# \{0,1\}//p' "$0" >&2; exit 2; }

install_debian() {
    "$top/scripts/apt.sh" docker.io docker-compose busybox-static iproute2
}

install_current() {
    "$top/scripts/apt.sh" docker.io docker-compose busybox-static iproute2 \
        gcc libc6-dev libseccomp-dev pkg-config
    pins="moby $moby, containerd $containerd, runc $runc"
    [ "$(cat "$bin/versions" 2>/dev/null)" != "$pins" ] || return 0
    say "building $pins (minutes, once)"
    mkdir -p "$bin"
    export GOBIN="$bin" CGO_ENABLED=1 GOFLAGS=
    log=$(mktemp)
    {
        go install "github.com/containerd/containerd/v2/cmd/containerd@$containerd" \
            "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2@$containerd" &&
        go install "github.com/moby/moby/v2/cmd/dockerd@$moby" \
            "github.com/moby/moby/v2/cmd/docker-proxy@$moby" &&
        go install -tags seccomp "github.com/opencontainers/runc@$runc"
    } >"$log" 2>&1 || { tail -n 30 "$log" >&2; rm "$log"; die "go install"; }
    rm "$log"
    echo "$pins" >"$bin/versions"
}

# The cgroup of DIR's containers: one name for each DIR.
cgroup() { echo "valise-engine-$(printf %s "$1" | cksum | cut -d ' ' -f 1)"; }

# running PID-FILE WORD is the PID in it, if that runs a program with WORD in
# its arguments: a stale file may hold the number of anything.
running() {
    pid=$(cat "$1" 2>/dev/null) && [ -n "$pid" ] || return 1
    tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF -- "$2" || return 1
    echo "$pid"
}

# alive PID: there is such a process, and it is no zombie.
alive() { grep -q '^State:[[:space:]]*[^ZX[:space:]]' "/proc/$1/status" 2>/dev/null; }

# finish PID SECONDS waits until it is not.
finish() {
    tries=$(($2 * 10))
    while alive "$1"; do
        [ $tries -gt 0 ] || return 1
        tries=$((tries - 1))
        sleep 0.1
    done
}

start() {
    kind=$1 dir=$2
    shift 2
    case $kind in
    debian) dockerd=/usr/sbin/dockerd ;;
    current) dockerd=$bin/dockerd ;;
    esac
    [ -x "$dockerd" ] || die "$dockerd is missing: run $0 install $kind"
    mkdir -p "$dir"
    dir=$(cd "$dir" && pwd -P)
    socket=$dir/docker.sock
    [ ${#socket} -le 107 ] || die "$socket: too long for a unix socket"
    ! running "$dir/docker.pid" "$dir/data" >/dev/null || die "$dir: already running"
    # dockerd would take any process of these numbers for its own.
    rm -f "$dir/docker.pid" "$socket"
    running "$dir/exec/containerd/containerd.pid" "$dir/exec" >/dev/null ||
        rm -f "$dir/exec/containerd/containerd.pid"

    [ "$kind" = debian ] || PATH=$bin:$PATH
    # Debian's docker and docker-compose speak API 1.41 and older.
    DOCKER_MIN_API_VERSION=1.24 PATH=$PATH setsid "$dockerd" \
        --host "unix://$socket" --pidfile "$dir/docker.pid" \
        --data-root "$dir/data" --exec-root "$dir/exec" \
        --cgroup-parent "/$(cgroup "$dir")" --shutdown-timeout 5 \
        --bridge none --iptables=false --ip6tables=false --ip-forward=false \
        "$@" >>"$dir/dockerd.log" 2>&1 </dev/null &
    started=$!
    tries=300
    until DOCKER_HOST=unix://$socket docker version >/dev/null 2>&1; do
        tries=$((tries - 1))
        if [ $tries = 0 ] || ! alive $started; then
            tail -n 30 "$dir/dockerd.log" >&2
            die "$dir: dockerd did not come up"
        fi
        sleep 0.2
    done
    echo "unix://$socket"
}

# shims DIR [NAMESPACE]: the process that holds each container (in moby) and
# plugin (plugins.moby) of the engine. None ends with dockerd; each has the
# address of the engine's containerd in its arguments.
shims() {
    for args in /proc/[0-9]*/cmdline; do
        found=$(tr '\0' '\n' 2>/dev/null <"$args" |
            grep -cxF -e "$1/exec/containerd/containerd.sock" -e "${2:--namespace}") || :
        [ "$found" = 2 ] || continue
        shim=${args#/proc/}
        echo "${shim%/cmdline}"
    done
}

children() { cat /proc/"$1"/task/*/children 2>/dev/null || :; }

# family PID...: these and all their descendants.
family() {
    for member; do
        echo "$member"
        # shellcheck disable=SC2046 # a list of numbers
        family $(children "$member")
    done
}

# mounts DIR: the mount points below it, the innermost and latest last.
mounts() {
    awk -v below="$1/" 'index($5, below) == 1 { print $5 }' /proc/self/mountinfo |
        while read -r target; do printf '%b\n' "$target"; done # \040 is a space
}

# plugins DIR: their ids, which name their cgroups and run directories too.
plugins() { find "$1/data/plugins" -maxdepth 1 -name '????????????????*' -printf '%f\n' 2>/dev/null || :; }

stop() {
    [ -d "$1" ] || return 0
    dir=$(cd "$1" && pwd -P)

    if daemon=$(running "$dir/docker.pid" "$dir/data"); then
        kill -TERM "$daemon"
        sleep 0.3
        # A shell as PID 1 would sit out dockerd's patience. (The plugins have
        # yet to unmount; dockerd ends them itself.)
        for shim in $(shims "$dir" moby); do
            # shellcheck disable=SC2046
            kill -KILL $(children "$shim") 2>/dev/null || :
        done
        finish "$daemon" 30 || kill -KILL "$daemon" 2>/dev/null || :
        finish "$daemon" 5 || die "$dir: dockerd $daemon does not end"
    fi
    containerd=$(running "$dir/exec/containerd/containerd.pid" "$dir/exec") || containerd=
    # shellcheck disable=SC2046,SC2086
    for pid in $containerd $(family $(shims "$dir")); do
        kill -KILL "$pid" 2>/dev/null || :
        finish "$pid" 5 || die "$dir: process $pid does not end"
    done

    while target=$(mounts "$dir" | tail -n 1) && [ -n "$target" ]; do
        umount "$target" || umount -l "$target"
    done
    # What a killed shim, or dockerd, could not remove.
    grep -rhoE '/run/containerd/s/[0-9a-f]{64}' "$dir/exec/containerd/daemon" 2>/dev/null |
        while read -r stale; do rm -f "$stale"; done
    grep -aoh 'br-[0-9a-f]\{12\}' "$dir/data/network/files/local-kv.db" 2>/dev/null |
        sort -u | while read -r bridge; do
        [ ! -e "/sys/class/net/$bridge" ] || ip link delete "$bridge"
    done
    for id in $(plugins "$dir"); do
        rm -rf "/run/docker/plugins/$id"
    done
    for name in "$(cgroup "$dir")" $(plugins "$dir"); do
        find /sys/fs/cgroup -depth -type d -path "*/$name*" -exec rmdir {} +
    done
    rm -rf "$dir/data" "$dir/exec"
    rm -f "$dir/docker.pid" "$dir/docker.sock" "$dir/dockerd.log"
    rmdir "$dir" 2>/dev/null || :
}

[ $# -ge 1 ] || usage
verb=$1 kind=debian
shift
case ${1-} in
debian | current) [ "$verb" != install ] && [ "$verb" != start ] || { kind=$1; shift; } ;;
esac
case $verb,$# in
install,0) "install_$kind" ;;
stop,1) stop "$1" ;;
cgroup,1) cgroup "$1" ;;
start,[1-9]*)
    dir=$1
    shift
    case ${1-} in
    '') ;;
    --) shift ;;
    *) usage ;;
    esac
    start "$kind" "$dir" "$@"
    ;;
*) usage ;;
esac
