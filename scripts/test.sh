#!/bin/sh
# The integration tests: profiles on S3, enforced limits on a kernel with project
# quotas (scripts/vm.sh), then the driver and the proxy against a private engine of
# each kind. Fails too if these leave a container, network, mount, process or cgroup
# behind.
#
#   scripts/test.sh [GO-TEST-FLAG...]
#
# ENGINES="debian current"  the kinds of scripts/engine.sh
# VALISE_SOAK=10m           how long integration/s3 does random things to a home
#
# The tests find it by VALISE_ENGINE (the kind), VALISE_DOCKER_HOST,
# VALISE_ENGINE_DIR, VALISE_PLUGIN_DIR and VALISE_BINARY. docker and
# docker-compose in their PATH are Debian's.
set -eu

top=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cd "$top"
began=$(date +%s)
say() { echo "==> $(($(date +%s) - began)) s: $*"; }

dir=
stop() { [ -z "$dir" ] || scripts/engine.sh stop "$dir"; }
trap 'trap "" PIPE; stop && rm -rf --one-file-system "$dir"' EXIT
trap 'exit 130' INT TERM HUP
trap 'exit 141' PIPE

# left WHAT LIST... says what is left, if anything is.
left() {
    what=$1
    shift
    [ $# -gt 0 ] || return 0
    echo "left behind by the tests: $what:" "$@" >&2
    failed=1
}

traces() { # of the engine, on the host
    awk -v dir="$dir" 'index($0, dir) { print $5 }' /proc/self/mountinfo
    for process in /proc/[0-9]*; do
        [ "$process" = /proc/$$ ] ||
            ! tr '\0' ' ' 2>/dev/null <"$process/cmdline" | grep -F "$dir" || echo "$process"
    done
    ls /sys/class/net
    find /sys/fs/cgroup -type d -name "$(scripts/engine.sh cgroup "$dir")"
}

# shellcheck disable=SC2046,SC2086 # lists of words
run() {
    engine=$1
    shift
    say "$engine: engine"
    scripts/engine.sh install "$engine"
    dir=$(mktemp -d /tmp/valise.XXXX)
    before=$(traces)
    mkdir "$dir/bin"
    ln -s /usr/bin/docker /usr/bin/docker-compose "$dir/bin"
    socket=$(PATH=$dir/bin:$PATH scripts/engine.sh start "$engine" "$dir")
    scripts/image.sh "$socket"

    say "$engine: tests"
    PATH=$dir/bin:$PATH VALISE_ENGINE=$engine VALISE_DOCKER_HOST=$socket \
        VALISE_ENGINE_DIR=$dir VALISE_PLUGIN_DIR=$top/build/plugin \
        VALISE_BINARY=$top/build/valise \
        go test -tags integration -count=1 -timeout 20m -v "$@" ./integration || failed=1

    left containers $(docker -H "$socket" ps -aq)
    left plugins $(docker -H "$socket" plugin ls -q)
    left networks $(docker -H "$socket" network ls -q --filter type=custom)
    left mounts $(awk -v dir="$dir" 'index($5, dir) && $5 !~ dir "/(data|exec)" { print $5 }' \
        /proc/self/mountinfo)
    [ -z "$failed" ] || grep -E 'level=(error|fatal)' "$dir/dockerd.log" | tail -n 40 >&2 || :
    stop
    after=$(traces)
    [ "$before" = "$after" ] || left "traces (before, after)" "$before" / "$after"
    rm -rf --one-file-system "$dir"
    dir=
}

failed=
make --no-print-directory plugin
say "S3: tests"
VALISE_BINARY=$top/build/valise \
    go test -tags integration -count=1 -timeout 20m -v "$@" ./integration/s3/... || failed=1
say "quotas: tests in a virtual machine"
scripts/vm.sh install
CGO_ENABLED=0 go test -tags vm -c -o build/quota.test ./quota
CGO_ENABLED=0 go test -tags 'integration vm' -c -o build/s3.test ./integration/s3
(cd quota && ../scripts/vm.sh run ../build/quota.test -test.v) || failed=1
(cd integration/s3 && VALISE_BINARY=$top/build/valise ../../scripts/vm.sh run ../../build/s3.test -test.v -test.run Enforced) || failed=1
for engine in ${ENGINES:-debian current}; do
    run "$engine" "$@"
done
[ -z "$failed" ] || { say failed; exit 1; }
say passed
