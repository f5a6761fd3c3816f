#!/bin/sh
# What the proxy costs: requests per second, latency and streaming, direct and
# through the proxy in turn, against one private engine.
#
#   scripts/bench-proxy.sh [-quick]
#
# ENGINE=debian  the kind of scripts/engine.sh; or current
# MB=200         the size of the image that is saved
#
# Nothing else should run on the machine meanwhile.
set -eu

top=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cd "$top"
image=valise-demo/desktop big=valise-bench/random

say() { echo "== $*" >&2; }
die() { echo "bench: $*" >&2; exit 1; }

proxy='' dir=$(mktemp -d /tmp/valise-bench.XXXX)
clean() {
    code=$?
    set +e
    trap '' INT TERM HUP PIPE
    [ -z "$proxy" ] || { kill "$proxy" && wait "$proxy"; } 2>/dev/null
    scripts/engine.sh stop "$dir/engine"
    rm -rf --one-file-system "$dir"
    exit $code
}
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
trap 'exit 141' PIPE

say "engine ${ENGINE:-debian}, build, image of ${MB:-200} MB"
make --no-print-directory plugin >"$dir/log" 2>&1 || { cat "$dir/log" >&2; die "make plugin"; }
go build -o "$dir/bench" ./bench
scripts/engine.sh install "${ENGINE:-debian}"
host=$(scripts/engine.sh start "${ENGINE:-debian}" "$dir/engine")
unset DOCKER_CONTEXT DOCKER_TLS_VERIFY DOCKER_CERT_PATH
export DOCKER_HOST="$host"
scripts/image.sh "$host" $image
mkdir "$dir/big" "$dir/config" "$dir/state" "$dir/run" "$dir/profiles"
head -c "${MB:-200}000000" /dev/urandom >"$dir/big/random"
tar -C "$dir/big" -c . | docker import - $big >/dev/null
rm -r "$dir/big"
cat >"$dir/config/config.toml" <<EOT
log_level = "warning"
[proxy]
upstream = "$host"
[[proxy.listen]]
address = "unix://$dir/docker.sock"
policy = "trusted"
identity = ["valise"]
[roots."/mnt"]
[workspaces.desktop]
images = ["$image"]
profile = "/mnt/{username}"
EOT
PROFILES=$dir/profiles CONFIG=$dir/config STATE=$dir/state RUN=$dir/run scripts/plugin.sh install >"$dir/log"
build/valise proxy --config "$dir/config/config.toml" &
proxy=$!
tries=50
until [ -S "$dir/docker.sock" ]; do
    tries=$((tries - 1))
    [ $tries -gt 0 ] && kill -0 $proxy 2>/dev/null || die "the proxy does not come up"
    sleep 0.1
done

say "Docker $(docker version -f '{{.Server.Version}}'), Linux $(uname -r), $(nproc) cores, $(date -I)"
"$dir/bench" -direct "$host" -proxy "unix://$dir/docker.sock" -pid $proxy -image $image -big $big "$@"
