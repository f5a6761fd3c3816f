#!/bin/sh
# Installs, replaces or removes the managed plugin, in the engine that docker
# talks to (DOCKER_HOST). Profiles, volume records and all other state lie on
# the host, not in the plugin: neither verb loses any.
#
#   scripts/plugin.sh install|remove
#
# PLUGIN_NAME=valise       the driver's name
# PLUGIN_DIR=build/plugin  what `make plugin` staged
# PROFILES=/mnt CONFIG=/etc/valise STATE=/var/lib RUN=/run
#                          the host's directories behind the plugin's mounts
# SETTINGS='NAME=VALUE …'  more of docker plugin set, such as HTTPS_PROXY=…
# FORCE=1                  go on while running containers have volumes of it:
#                          they keep their files, but a mount that the new
#                          plugin makes does not reach them
set -eu

top=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
dir=${PLUGIN_DIR:-$top/build/plugin}
config=${CONFIG:-/etc/valise} state=${STATE:-/var/lib}
name=${PLUGIN_NAME:-valise}
case ${name##*/} in
*:*) ;;
*) name=$name:latest ;; # as docker lists it
esac

die() { echo "plugin: $*" >&2; exit 1; }

# users prints the running containers that have a volume of the driver.
users() {
    docker volume ls -q --filter "driver=$name" | while read -r volume; do
        docker ps --filter "volume=$volume" --format '{{.Names}}'
    done | sort -u
}

remove() {
    id=$(docker plugin inspect -f '{{.Id}}' "$name" 2>/dev/null) || return 0
    users=$(users)
    if [ -n "$users" ] && [ -z "${FORCE-}" ]; then
        # shellcheck disable=SC2086 # a list on one line
        die "$name has volumes in running containers:" $users \
            "(stop them, or say FORCE=1)"
    fi
    # -f, for dockerd counts every volume as a use, mounted or not.
    [ "$(docker plugin inspect -f '{{.Enabled}}' "$id")" = false ] ||
        docker plugin disable -f "$id" >/dev/null
    # rm deletes what is below the plugin's mount points: nothing must be.
    ! grep -q "/plugins/$id/propagated-mount/" /proc/self/mountinfo ||
        die "$name: a profile is still mounted below it, see /proc/self/mountinfo"
    docker plugin rm -f "$id" >/dev/null
}

install() {
    [ -x "$dir/rootfs/valise" ] || die "$dir holds no plugin: run make plugin"
    mkdir -p "$config"
    [ -e "$config/config.toml" ] ||
        die "$config/config.toml is missing: start from $top/config.toml.example"
    # Paths inside the file are those that the plugin sees.
    [ "$config" != /etc/valise ] || "$dir/rootfs/valise" config check "$config/config.toml"
    ! mountpoint -q "$state/valise" ||
        die "$state/valise is a file system of its own, which the plugin would not see: say STATE=$state/valise"
    remove
    docker plugin create "$name" "$dir" >/dev/null
    # shellcheck disable=SC2086 # SETTINGS is a list
    docker plugin set "$name" profiles.source="${PROFILES:-/mnt}" \
        config.source="$config" state.source="$state" run.source="${RUN:-/run}" ${SETTINGS-}
    # docker's default of 30 s cuts off mappings that are given longer.
    docker plugin enable --timeout 120 "$name" >/dev/null
    # It runs without a good configuration too, and tells whoever asks for a volume.
    case $(docker volume create -d "$name" -o path=/ valise-probe 2>&1) in
    *"no valid configuration: "*)
        docker volume create -d "$name" -o path=/ valise-probe >&2 ||
            die "$name is enabled, but refuses everything until $config/config.toml is mended and read again (valise reload)"
        ;;
    esac
    echo "$name is enabled"
    profiles=${PROFILES:-/mnt}
    case $(findmnt -n -o PROPAGATION --mountpoint "$profiles" || :) in
    *shared*) ;;
    *)
        echo "note: a file system that is mounted below $profiles from now on is seen when the" \
            "plugin is next enabled; to have it seen at once, before installing:" \
            "mount --bind $profiles $profiles && mount --make-shared $profiles"
        ;;
    esac
}

case ${1-} in
install | remove) "$1" ;;
*) sed -n '2,/^set -eu/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
