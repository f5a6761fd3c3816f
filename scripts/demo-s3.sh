#!/bin/sh
# Shows homes on S3 at work between two hosts, checks what it shows, and cleans up.
#
#   scripts/demo-s3.sh
#
# The hosts are two private engines of Debian's docker.io, each with the managed plugin
# and the proxy; the store is a MinIO, with TLS. All of it is the demo's own, and nothing
# of this host is changed. It ends with 0 if all was as said, with 1 at the first thing
# that was not.
set -eu

top=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cd "$top"
plugin=valise-demo image=valise-demo/desktop

# shellcheck source=scripts/demo-lib.sh
. scripts/demo-lib.sh

dir='' proxy='' one_proxy='' two_proxy=''
clean() {
    code=$?
    set +e
    trap '' INT TERM HUP PIPE
    [ -n "$dir" ] || exit $code
    complain "$dir/one/proxy.log" "$dir/two/proxy.log"
    say cleaning up
    for pid in $one_proxy $two_proxy; do kill "$pid" && wait "$pid"; done 2>/dev/null
    for host in one two; do
        [ -S "$dir/$host/engine/docker.sock" ] || continue
        export DOCKER_HOST="unix://$dir/$host/engine/docker.sock"
        # What is unsaved is thrown away with the store, but in good order.
        docker ps -aq | xargs -r docker rm -f >/dev/null 2>&1
        timeout 60 build/valise drain --admin "unix://$dir/$host/run/valise/admin.sock" >/dev/null 2>&1
        sweep >/dev/null 2>&1 || { sleep 2; sweep >/dev/null; } || code=1
    done
    for host in one two; do
        [ ! -d "$dir/$host/engine" ] || scripts/engine.sh stop "$dir/$host/engine" || code=1
    done
    scripts/s3.sh stop "$dir/minio" || code=1
    finish $code
}

begin
say "building; MinIO and Debian's docker.io too, if they are missing (minutes, once)"
scripts/engine.sh install debian
scripts/s3.sh install
make_plugin

say "starting a store and two hosts in $dir"
store=$(scripts/s3.sh start "$dir/minio" tls)
eval "$store"
export AWS_REGION=us-east-1
mkdir "$dir/minio/data/homes" # which makes a bucket
url=s3://homes@${S3_ENDPOINT#https://}/desktop

# start_host NAME starts an engine with the plugin and a proxy, whose PID is proxy.
start_host() {
    at=$dir/$1
    mkdir -p "$at/config" "$at/state" "$at/run" "$at/profiles"
    DOCKER_HOST=$(scripts/engine.sh start debian "$at/engine")
    export DOCKER_HOST
    scripts/image.sh "$DOCKER_HOST" $image
    (umask 077 && echo "$AWS_SECRET_ACCESS_KEY" >"$at/config/s3.secret")
    cp "$AWS_CA_BUNDLE" "$at/config/ca.pem"
    # Paths in it are the plugin's, which sees config as /etc/valise.
    cat >"$at/config/config.toml" <<EOT
host = "host-$1"

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
ca_file = "/etc/valise/ca.pem"
region = "$AWS_REGION"

[workspaces.desktop]
images = ["$image"]
profile = "$url/{username}/"
EOT
    checked "$at/config/config.toml"
    PLUGIN_NAME=$plugin PROFILES=$at/profiles CONFIG=$at/config STATE=$at/state RUN=$at/run \
        scripts/plugin.sh install >"$dir/log" || { cat "$dir/log" >&2; die "scripts/plugin.sh install"; }
    start_proxy "$at/config/config.toml" "$at/docker.sock" "$at/proxy.log"
}
start_host one
one_proxy=$proxy
start_host two
two_proxy=$proxy
unset DOCKER_HOST
# One with paths as this host has them.
{
    echo "state_dir = \"$dir/one/state/valise\""
    sed "s|\"/etc/valise/|\"$dir/one/config/|" "$dir/one/config/config.toml"
} >"$dir/operator.toml"
export config="$dir/operator.toml"
# It has to do without these.
unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_CA_BUNDLE AWS_REGION
export one="unix://$dir/one/docker.sock" two="unix://$dir/two/docker.sock" alice="$url/alice/"
PATH=$top/build:$PATH

cat <<EOT

Two hosts have the same configuration but for their names; these are their proxies:

   $ one=$one
   $ two=$two

Homes lie on S3, Alice's is

   $ alice=$alice

The store's credentials, for the operator's commands, are in the configuration

   $ config=$config
EOT
run="run --rm -u user -l valise.user=alice" us=$image
# What shall be the same on all hosts: every file's content, and all attributes.
# shellcheck disable=SC2016 # for the shell in the container
digest='cd project && { find . -type f | sort | xargs md5sum; find . | sort | xargs stat -c "%n %F %a %u %Y"; } | md5sum'

show "Alice works on the first host, in a home that is new: 300 objects, as git has them." \
    "docker -H \$one $run $us sh -c '
        mkdir project && cd project && echo Ship it on Friday. >plan.txt && ln -s plan.txt plan
        for i in \$(seq 300); do
            sum=\$(echo \$i | md5sum) dir=.git/objects/\${sum%\${sum#??}}
            mkdir -p \$dir && echo object \$i >\$dir/\$i && chmod 444 \$dir/\$i
        done
        find . | wc -l; cd .. && $digest'"
succeeds
sum=$(tail -n 1 "$dir/out")

show "She logs in on the second at once. The first is just saving, it waits, and has it all." \
    "docker -H \$two $run $us sh -c '$digest; cat plan'"
succeeds
took
prints "$sum"
prints "Ship it on Friday."

show "She is at work there ..." \
    "docker -H \$two run -d --name work -u user -l valise.user=alice $us sleep 600"
succeeds

show "... and while she is, the first host does not open her home. It says who has it." \
    "docker -H \$one $run $us true"
fails
prints host-two

show "What the second host's operator sees." \
    "valise profile show alice --admin unix://$dir/two/run/valise/admin.sock"
succeeds
grep -Eq 'desktop +alice +1 ' "$dir/out" || wrong "alice is missing, with one mount"

# The port is in the name of its state, and no other store has it.
serves="[m]ount --settings .*/homes_.*_${S3_ENDPOINT##*:}_desktop_alice-"
show "The process that serves her home is killed. She notices nothing." \
    "kill -9 \$(pgrep -nf '$serves'); docker -H \$two exec work cat project/plan"
succeeds
prints "Ship it on Friday."

show "She deletes a file by mistake, and logs out." \
    "docker -H \$two exec work rm project/plan.txt && docker -H \$two rm -f work"
succeeds

show "Back on the first host, it is missing there too." \
    "docker -H \$one $run $us ls -A project"
succeeds
! grep -q plan.txt "$dir/out" || wrong "plan.txt is there"

show "Every save is a snapshot." \
    "valise snapshots --config \$config \$alice"
succeeds
prints host-one
prints host-two

show "The operator fetches the file from the first, ..." \
    "valise restore --config \$config --snapshot 1 --path project/plan.txt \$alice $dir/back && find $dir/back -type f"
succeeds
found=$(grep "^$dir/back/" "$dir/out") || wrong "no file was restored"

show "... for her next session." \
    "docker -H \$one $run -i $us tee project/plan.txt <$found"
succeeds
prints "Ship it on Friday."

show "The launch option reset makes her home empty. ..." \
    "docker -H \$one $run -l valise.profile=reset $us ls -A"
succeeds
silent

show "... What was there before is in the snapshot below the newest, ..." \
    "valise snapshots --config \$config \$alice"
succeeds
before=$(awk 'NR == 3 { print $1 }' "$dir/out")

show "... which undoes the reset." \
    "valise export --config \$config --snapshot $before \$alice - | docker -H \$one $run -i $us tar -x"
succeeds

show "It is all there again, on the second host as well." \
    "docker -H \$two $run $us sh -c '$digest; cat plan'"
succeeds
prints "Ship it on Friday."

show "And the store is sound: everything that the snapshots need is there, and right." \
    "valise check --config \$config --read-data \$alice"
succeeds
prints "everything is there"

show "Before the hosts go, they are drained: nothing is mounted there, and all is saved." \
    "valise drain --admin unix://$dir/one/run/valise/admin.sock &&
     valise drain --admin unix://$dir/two/run/valise/admin.sock"
succeeds

printf '\nAll of this was checked as it ran.\n'
