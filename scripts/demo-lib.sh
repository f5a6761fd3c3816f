# shellcheck shell=sh
# What scripts/demo.sh and scripts/demo-s3.sh have in common: they source it from the
# top of the repository. It takes plugin and image, the names of what they make in an
# engine. Its begin sets dir, a directory of their own; who sources it has clean.
: "${plugin:?}" "${image:?}"

die() { echo "demo: $*" >&2; exit 1; }
say() { echo "== $*"; }

# sweep takes out of the engine what the demo put there.
sweep() {
    docker ps -aq --filter "ancestor=$image" | xargs -r docker rm -f &&
        docker volume ls -q --filter "driver=$plugin:latest" | xargs -r docker volume rm &&
        PLUGIN_NAME=$plugin scripts/plugin.sh remove &&
        { [ -z "$(docker image ls -q "$image")" ] || docker image rm "$image"; }
}

# begin makes dir, and calls clean at the end, however that comes.
begin() {
    [ "$(id -u)" = 0 ] || die "run it as root: it makes directories for other users"
    trap clean EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    trap 'exit 141' PIPE
    dir=$(mktemp -d /tmp/valise-demo.XXXX)
    chmod 755 "$dir"
}

# finish CODE ends the cleaning: nothing of the demo is left.
finish() {
    rm -rf --one-file-system "$dir"
    exit "$1"
}

# complain LOG... shows how the logs end, if the demo has failed.
complain() {
    [ "$code" = 1 ] || return 0
    for log; do
        [ ! -s "$log" ] || { echo "demo: the proxy's log ends:"; tail -n 5 "$log"; } >&2
    done
}

# checked CONFIG sees that a configuration is good.
checked() { build/valise config check "$1" >"$dir/log" || { cat "$dir/log" >&2; die "valise config check"; }; }

make_plugin() { make --no-print-directory plugin >"$dir/log" 2>&1 || { cat "$dir/log" >&2; die "make plugin"; }; }

# start_proxy CONFIG SOCKET LOG sets proxy to its PID when it listens.
start_proxy() {
    build/valise proxy --config "$1" 2>"$3" &
    proxy=$!
    tries=50
    until [ -S "$2" ]; do
        tries=$((tries - 1))
        { [ $tries -gt 0 ] && kill -0 $proxy 2>/dev/null; } || die "the proxy does not come up"
        sleep 0.1
    done
}

# show TEXT COMMAND says what comes, then runs the command as a user would. Its output
# and exit code are looked at by the checks behind it.
number=0
show() {
    number=$((number + 1))
    claim=$1
    printf '\n%s. %s\n   $ %s\n' $number "$1" "$2"
    code=0 began=$(date +%s%3N)
    sh -c "$2" >"$dir/out" 2>&1 </dev/null || code=$?
    ended=$(date +%s%3N)
    if [ -s "$dir/out" ]; then sed 's/^/   /' "$dir/out"; else echo "   (no output)"; fi
}
# took says how long that was.
took() { printf '   (%d.%d seconds)\n' $(((ended - began) / 1000)) $(((ended - began) % 1000 / 100)); }
wrong() { die "this is not so: $claim ($*)"; }
succeeds() { [ "$code" = 0 ] || wrong "exit code $code"; }
fails() { [ "$code" != 0 ] || wrong "the command succeeded"; }
prints() { grep -qF -- "$1" "$dir/out" || wrong "\"$1\" is missing in the output"; }
silent() { [ ! -s "$dir/out" ] || wrong "there is output"; }
