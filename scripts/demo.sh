#!/bin/sh
# Shows valise at work on a Docker Engine, checks what it shows, and cleans up.
#
#   scripts/demo.sh
#
# It takes the engine that docker talks to (DOCKER_HOST or the context) if that
# is on this host, else a private one of Debian's. The managed plugin, the proxy
# and all their files are the demo's own: a valise that is installed here is not
# touched, and of the engine nothing is changed for good. It ends with 0 if all
# was as said, with 1 at the first thing that was not.
set -eu

top=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cd "$top"
plugin=valise-demo image=valise-demo/desktop session=valise-demo-session

# shellcheck source=scripts/demo-lib.sh
. scripts/demo-lib.sh

# engine prints the address of the engine that is there, if managed plugins run
# on it and it sees this host's directories.
engine() {
    command -v docker >/dev/null || return 1
    address=${DOCKER_HOST:-$(docker context inspect -f '{{.Endpoints.docker.Host}}')} || return 1
    case $address in
    unix://*) ;;
    *) return 1 ;;
    esac
    security=$(docker -H "$address" info -f '{{.ServerVersion}} {{.SecurityOptions}}') || return 1
    case $security in
    '' | ' '* | *rootless*) return 1 ;;
    esac
    echo "$address"
}

dir='' host='' proxy=''
clean() {
    code=$?
    set +e
    trap '' INT TERM HUP PIPE
    [ -n "$dir" ] || exit $code
    complain "$dir/proxy.log"
    say cleaning up
    [ -z "$proxy" ] || { kill "$proxy" && wait "$proxy"; } 2>/dev/null
    if [ -n "$host" ]; then
        export DOCKER_HOST="$host"
        # A create that was under way at a Ctrl-C may still come through.
        sweep >/dev/null 2>&1 || { sleep 2; sweep >/dev/null; } || code=1
    fi
    [ ! -d "$dir/engine" ] || scripts/engine.sh stop "$dir/engine" || code=1
    finish $code
}

begin

if address=$(engine 2>/dev/null); then
    say "using the Docker Engine at $address"
    if ! command -v busybox || ldd "$(command -v busybox)"; then
        apt-get -q -y install busybox-static
    fi >"$dir/log" 2>&1 || die "install busybox-static, which the demo makes its image from"
else
    say "starting a private Docker Engine, Debian's docker.io, in $dir/engine"
    scripts/engine.sh install debian
    address=$(scripts/engine.sh start debian "$dir/engine")
fi
unset DOCKER_CONTEXT DOCKER_TLS_VERIFY DOCKER_CERT_PATH
export DOCKER_HOST="$address"
! docker plugin inspect $plugin >/dev/null 2>&1 ||
    die "there is a plugin $plugin already, of another demo that is running or was killed; docker plugin rm -f removes it"
[ -z "$(docker image ls -q $image)" ] ||
    die "there is an image $image already, of another demo that is running or was killed; docker image rm removes it"
host=$address # from now on it is cleaned up

say "building, and installing the managed plugin $plugin"
make_plugin
scripts/image.sh "$host" $image

# Paths below roots and workspaces are the plugin's, which sees profiles as /mnt;
# the proxy never looks at them.
mkdir -p "$dir/config" "$dir/state" "$dir/run" "$dir/profiles/homes" \
    "$dir/profiles/shares/team" "$dir/profiles/shares/engineering"
echo "Welcome to the team." >"$dir/profiles/shares/team/welcome.txt"
echo "Ship it on Friday." >"$dir/profiles/shares/engineering/plan.txt"
cat >"$dir/config/config.toml" <<EOT
[proxy]
upstream = "$host"
driver = "$plugin"

[[proxy.listen]]
address = "unix://$dir/docker.sock"
policy = "trusted"
identity = ["valise"]

[roots."/mnt/homes"]
[roots."/mnt/shares"]

[workspaces.desktop]
images = ["$image"]
profile = "/mnt/homes/{username}"

[workspaces.desktop.volume_mappings."/mnt/shares/team"]
bind = "/team"

[groups.engineering.volume_mappings."/mnt/shares/engineering"]
bind = "/engineering"

[groups.auditors.volume_mappings."/mnt/shares/ledger"]
bind = "/ledger"
required = false
EOT
checked "$dir/config/config.toml"
PLUGIN_NAME=$plugin PROFILES=$dir/profiles CONFIG=$dir/config STATE=$dir/state RUN=$dir/run \
    scripts/plugin.sh install >"$dir/log"
start_proxy "$dir/config/config.toml" "$dir/docker.sock" "$dir/proxy.log"
export DOCKER_HOST="unix://$dir/docker.sock" VALISE_ADMIN="unix://$dir/run/valise/admin.sock"
PATH=$top/build:$PATH

cat <<EOT

The users alice and bob share a host. Their containers are started through the proxy's
socket, by an orchestrator that says in labels for whom; here, with the docker command:

   $ export DOCKER_HOST=$DOCKER_HOST
EOT
run="docker run --rm -u user" us="valise-demo/desktop"

show "Alice writes a file in her home. The container is deleted as it ends." \
    "$run -l valise.user=alice $us sh -c 'echo Remember the milk. >notes.txt'"
succeeds
silent

show "Her next container, a new one, has it: the home survives." \
    "$run -l valise.user=alice $us cat notes.txt"
succeeds
prints "Remember the milk."

show "Bob has a home of his own and does not see hers." \
    "$run -l valise.user=bob $us cat notes.txt"
fails
prints "No such file"

show "Every container of this workspace has the team's share, those of engineers theirs." \
    "$run -l valise.user=alice -l valise.groups=engineering $us cat /team/welcome.txt /engineering/plan.txt"
succeeds
prints "Welcome to the team."
prints "Ship it on Friday."

show "Bob, who is no engineer, does not get that." \
    "$run -l valise.user=bob $us ls /team /engineering"
fails
prints "welcome.txt"
prints "/engineering: No such file"

show "The auditors' share is missing today. It is optional: a warning, and he can work." \
    "$run -l valise.user=bob -l valise.groups=auditors $us sh -c 'echo Done. | tee report.txt'"
succeeds
prints "WARNING: valise: "
prints "/mnt/shares/ledger"
prints Done.

show "Alice is at work ..." \
    "docker run -d --name $session -u user -l valise.user=alice $us sleep 600"
succeeds

show "... and while she is, nobody can reset her home." \
    "$run -l valise.user=alice -l valise.profile=reset $us true"
fails
prints "is in use"

show "What the operator sees: who has a home, and how many containers have it mounted." \
    "valise profile ls"
succeeds
grep -Eq 'desktop +alice +1 .*/mnt/homes/alice$' "$dir/out" || wrong "alice is missing, with one mount"
grep -Eq 'desktop +bob +0 .*/mnt/homes/bob$' "$dir/out" || wrong "bob is missing, without a mount"

docker rm -f $session >/dev/null
show "She has gone. The launch option reset empties her home." \
    "$run -l valise.user=alice -l valise.profile=reset $us ls -A"
succeeds
silent

show "Bob's is as it was. The homes are plain directories of the host." \
    "ls -lnA $dir/profiles/homes/alice $dir/profiles/homes/bob"
succeeds
prints report.txt
[ "$(stat -c %u:%g:%a "$dir/profiles/homes/alice")" = 1000:1000:700 ] || wrong "alice's home has another owner or mode"
[ -z "$(ls -A "$dir/profiles/homes/alice")" ] || wrong "alice's home is not empty"

printf '\nAll of this was checked as it ran.\n'
