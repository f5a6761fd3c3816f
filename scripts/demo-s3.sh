#!/bin/sh
# Shows homes on S3 at work, on two hosts: two private Docker Engines with valise, and a
# MinIO. It checks what it shows, and cleans up. It ends with 0 if all was as said, with 1
# at the first thing that was not.
#
#   scripts/demo-s3.sh
set -eu

top=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cd "$top"
. scripts/demo-lib.sh
plugin=valise-demo image=valise-demo/desktop

dir='' hosts=''
clean() {
    code=$?
    set +e
    trap '' INT TERM HUP PIPE
    [ -n "$dir" ] || exit $code
    say cleaning up
    for host in $hosts; do
        at=$dir/$host
        [ ! -s "$at/proxy.pid" ] || kill "$(cat "$at/proxy.pid")" 2>/dev/null
        if [ -s "$at/socket" ]; then
            DOCKER_HOST=$(cat "$at/socket")
            export DOCKER_HOST
            docker ps -aq | xargs -r docker rm -f >/dev/null 2>&1
            VALISE_ADMIN=unix://$at/run/valise/admin.sock build/valise drain >/dev/null 2>&1
            docker volume ls -q | xargs -r docker volume rm >/dev/null 2>&1
            PLUGIN_NAME=$plugin scripts/plugin.sh remove >/dev/null 2>&1
            scripts/engine.sh stop "$at/engine" || code=1
        fi
    done
    scripts/s3.sh stop "$dir/minio" 2>/dev/null
    rm -rf --one-file-system "$dir"
    exit $code
}

[ "$(id -u)" = 0 ] || die "run it as root: it makes directories for other users"
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
trap 'exit 141' PIPE
dir=$(mktemp -d /tmp/valise-s3.XXXX)
chmod 755 "$dir"

say "building; MinIO and Debian's docker.io, if they are not there (minutes, once)"
scripts/engine.sh install debian
scripts/s3.sh install >"$dir/log" 2>&1 || { cat "$dir/log" >&2; die "install MinIO"; }
make --no-print-directory plugin >"$dir/log" 2>&1 || { cat "$dir/log" >&2; die "make plugin"; }
eval "$(scripts/s3.sh start "$dir/minio")"
mkdir "$dir/minio/data/homes" # a bucket

# up HOST starts an engine with valise, a host of its own.
up() {
    host=$1 at=$dir/$1
    hosts="$hosts $host"
    mkdir -p "$at/config" "$at/lib" "$at/run" "$at/mnt"
    scripts/engine.sh start debian "$at/engine" >"$at/socket"
    DOCKER_HOST=$(cat "$at/socket")
    export DOCKER_HOST
    scripts/image.sh "$DOCKER_HOST" $image
    echo "$AWS_SECRET_ACCESS_KEY" >"$at/config/s3.secret"
    cat >"$at/config/config.toml" <<EOT
host = "$host"

[proxy]
upstream = "$DOCKER_HOST"
driver = "$plugin"

[[proxy.listen]]
address = "unix://$at/docker.sock"
policy = "trusted"
identity = ["valise"]

[s3]
access_key_id = "$AWS_ACCESS_KEY_ID"
secret_access_key_file = "/etc/valise/s3.secret"
region = "us-east-1"

[workspaces.desktop]
images = ["$image"]
profile = "$url/{username}/"
EOT
    PLUGIN_NAME=$plugin PROFILES=$at/mnt CONFIG=$at/config STATE=$at/lib RUN=$at/run \
        scripts/plugin.sh install >"$dir/log" || { cat "$dir/log" >&2; die "install the plugin"; }
    build/valise proxy --config "$at/config/config.toml" 2>"$at/proxy.log" &
    echo $! >"$at/proxy.pid"
    tries=100
    until [ -S "$at/docker.sock" ]; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || die "the proxy of $host does not come up"
        sleep 0.1
    done
}
url=s3://homes@$S3_ENDPOINT/desktop
say "two hosts, each with a Docker Engine, the managed plugin and the proxy"
up host-one
up host-two
one=unix://$dir/host-one/docker.sock two=unix://$dir/host-two/docker.sock
PATH=$top/build:$PATH

cat <<EOT

Alice's home is below $url/alice/. Both hosts have
the same configuration but for their names:

$(grep -A3 workspaces.desktop "$dir/host-one/config/config.toml" | sed 's/^/   /')

   one=$one
   two=$two
EOT
export one two url dir
run="run --rm -u user -l valise.user=alice" us=$image

show "On the first host Alice's home is new. She makes a project of 2,000 files." \
    "docker -H \$one $run $us sh -c 'mkdir -p project && cd project && i=0 && while [ \$i -lt 2000 ]; do echo line \$i >f\$i; i=\$((i+1)); done; ln -s f7 link; ls | wc -l'"
succeeds
prints 2001

began=$(date +%s%N)
show "She logs in on the other host, right after: it waits until the first has saved, and has it all." \
    "docker -H \$two $run $us sh -c 'cat project/link; ls project | wc -l; rm project/f9'"
succeeds
prints "line 7"
prints 2001
echo "   (after $((($(date +%s%N) - began) / 1000000)) ms)"

show "While she is at work there ..." \
    "docker -H \$two run -d --name work -u user -l valise.user=alice $us sleep 600"
succeeds

show "... the first host does not open her home. It says who has it." \
    "docker -H \$one $run $us true"
fails
prints host-two

show "The process that serves her home is killed, as a crash would: she notices nothing." \
    "kill -9 \$(pgrep -f '[m]ount --settings .*desktop_alice' | tail -n 1); docker -H \$two exec work sh -c 'echo still here >note; cat note project/f8'"
succeeds
prints "still here"
prints "line 8"

show "What the operator sees of it." \
    "VALISE_ADMIN=unix://$dir/host-two/run/valise/admin.sock valise profile show alice"
succeeds
prints alice
docker -H "$two" rm -f work >/dev/null

show "She has deleted f9 by mistake. Every save is a snapshot ..." \
    "VALISE_ADMIN=unix://$dir/host-two/run/valise/admin.sock valise drain; valise snapshots \$url/alice/"
succeeds
prints SNAPSHOT

show "... and files come back from them, by the operator." \
    "valise restore \$url/alice/ \$dir/back --snapshot 1 --path project/f9 && cat \$dir/back/*"
succeeds
prints "line 9"
VALISE_ADMIN=unix://$dir/host-two/run/valise/admin.sock valise drain --undo >/dev/null

show "The launch option reset makes an empty home; the snapshots of before stay." \
    "docker -H \$two $run -l valise.profile=reset $us ls -A && valise snapshots \$url/alice/"
succeeds
prints SNAPSHOT

show "Everything is on S3: this host can go." \
    "VALISE_ADMIN=unix://$dir/host-two/run/valise/admin.sock valise drain && echo drained"
succeeds
prints drained

printf '\nAll of this was checked as it ran.\n'
