#!/bin/sh
# S3 servers for the tests, the benchmarks and for people: real ones, of pinned
# versions, built by Go into build/s3/bin, with nothing of the host changed.
#
#   scripts/s3.sh install [tests|bench]
#   scripts/s3.sh start   DIR [tls]
#   scripts/s3.sh stop    DIR
#
# install  minio, versitygw and toxiproxy-server; the tests start them themselves
# tests    also the programs that the tests run on a mount: git, sqlite3, chromium
# bench    also rclone, and Debian's s3fs, to compare with
#
# start runs MinIO with its data in DIR, on a free port of the loopback interface, and
# prints what the shell and the profile's URL need:
#
#   eval "$(scripts/s3.sh start DIR)"
#
# With tls it speaks TLS, with a certificate of its own that AWS_CA_BUNDLE names.
#
# After a kill -9 of MinIO, start on the same DIR goes on with what it held. stop
# leaves nothing of it behind.
set -eu

top=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
bin=$top/build/s3/bin

minio=v0.0.0-20260212201848-7aac2a2c5b7c
versitygw=v1.8.0
toxiproxy=v2.12.0
rclone=v1.76.0

say() { echo "s3: $*" >&2; }
die() { say "$@"; exit 1; }
usage() { sed -n '2,/^set -eu/s/^# \{0,1\}//p' "$0" >&2; exit 2; }

# build NAME PACKAGE VERSION puts the program NAME into $bin, unless it is there.
build() {
    pin="$1 $3"
    ! { [ -x "$bin/$1" ] && grep -qxF "$pin" "$bin/versions" 2>/dev/null; } || return 0
    say "building $pin (minutes, once)"
    mkdir -p "$bin"
    work=$(mktemp -d "$bin/.build.XXXXXX")
    GOBIN=$work CGO_ENABLED=0 GOFLAGS='' go install "$2@$3" >"$work/log" 2>&1 ||
        { tail -n 30 "$work/log" >&2; rm -rf "$work"; die "go install $2@$3"; }
    mv "$work/$(basename "$2")" "$bin/$1"
    rm -rf "$work"
    { grep -v "^$1 " "$bin/versions" 2>/dev/null || :; echo "$pin"; } >"$bin/versions.new"
    mv "$bin/versions.new" "$bin/versions"
}

install() {
    build minio github.com/minio/minio $minio
    build versitygw github.com/versity/versitygw/cmd/versitygw $versitygw
    build toxiproxy-server github.com/Shopify/toxiproxy/v2/cmd/server $toxiproxy
}

install_bench() {
    install
    build rclone github.com/rclone/rclone $rclone
    "$top/scripts/apt.sh" s3fs
}

install_tests() {
    install
    "$top/scripts/apt.sh" git sqlite3 chromium s3fs
}

# running DIR is the PID of its MinIO: a stale file may hold the number of anything.
running() {
    pid=$(cat "$1/minio.pid" 2>/dev/null) && [ -n "$pid" ] || return 1
    tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline" | grep -qxF -- "$1/data" || return 1
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

# address PID is where it listens, on 127.0.0.1: /proc/net/tcp has it in hexadecimal.
address() {
    for fd in /proc/"$1"/fd/*; do
        link=$(readlink "$fd" 2>/dev/null) || continue
        case $link in
        socket:*)
            inode=${link#socket:?}
            port=$(awk -v inode="${inode%]}" \
                '$10 == inode && $4 == "0A" { sub(/.*:/, "", $2); print $2 }' /proc/net/tcp)
            [ -z "$port" ] || { echo "127.0.0.1:$((0x$port))"; return 0; }
            ;;
        esac
    done
    return 1
}

# ready ADDRESS: it answers.
ready() { curl -fsk --max-time 5 -o /dev/null "$protocol://$1/minio/health/ready" 2>/dev/null; }

# certify DIR makes a certificate for the loopback address.
certify() {
    command -v openssl >/dev/null || die "openssl is missing"
    mkdir -p "$1"
    [ -s "$1/public.crt" ] || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 \
        -subj /CN=minio -addext subjectAltName=IP:127.0.0.1 \
        -keyout "$1/private.key" -out "$1/public.crt" >"$1/log" 2>&1 || { cat "$1/log" >&2; die "openssl req"; }
}

start() {
    [ -x "$bin/minio" ] || die "$bin/minio is missing: run $0 install"
    command -v curl >/dev/null || die "curl is missing"
    mkdir -p "$1/data"
    dir=$(cd "$1" && pwd -P)
    ! running "$dir" >/dev/null || die "$dir: already running"
    rm -f "$dir/minio.pid"
    protocol=http # MinIO's, unless there is a certificate
    if [ $# = 2 ]; then
        protocol=https
        certify "$dir/certs"
    fi
    if [ ! -s "$dir/secret" ]; then
        (umask 077 && od -An -N20 -tx1 /dev/urandom | tr -d ' \n' >"$dir/secret")
    fi
    HOME=$dir MINIO_ROOT_USER=valise MINIO_ROOT_PASSWORD=$(cat "$dir/secret") \
        MINIO_BROWSER=off MINIO_UPDATE=off setsid "$bin/minio" server --quiet \
        --certs-dir "$dir/certs" --address 127.0.0.1:0 "$dir/data" >>"$dir/minio.log" 2>&1 </dev/null &
    started=$!
    echo $started >"$dir/minio.pid"
    tries=300
    until at=$(address $started) && ready "$at"; do
        tries=$((tries - 1))
        if [ $tries = 0 ] || ! alive $started; then
            tail -n 30 "$dir/minio.log" >&2
            die "$dir: minio did not come up"
        fi
        sleep 0.1
    done
    cat <<END
export AWS_ACCESS_KEY_ID=valise
export AWS_SECRET_ACCESS_KEY=$(cat "$dir/secret")
export S3_ENDPOINT=$protocol://$at
END
    [ $protocol = http ] || echo "export AWS_CA_BUNDLE=$dir/certs/public.crt"
}

stop() {
    [ -d "$1" ] || return 0
    dir=$(cd "$1" && pwd -P)
    if pid=$(running "$dir"); then
        kill -TERM "$pid"
        finish "$pid" 10 || kill -KILL "$pid" 2>/dev/null || :
        finish "$pid" 5 || die "$dir: minio $pid does not end"
    fi
    rm -rf "$dir/data" "$dir/.minio" "$dir/certs"
    rm -f "$dir/minio.pid" "$dir/minio.log" "$dir/secret"
    rmdir "$dir" 2>/dev/null || :
}

[ $# -ge 1 ] || usage
case $*,$# in
install,1) install ;;
'install tests,2') install_tests ;;
'install bench,2') install_bench ;;
start\ ?*,2) start "$2" ;;
'start '?*' tls,3') start "$2" tls ;;
stop\ ?*,2) stop "$2" ;;
*) usage ;;
esac
