# Sourced by every hook: the places, the log, the lock, the switch. Bash, with `set -euo pipefail`.
#
# Two locks. Each hook holds a flock while it runs, so that two never run at once. Between the hooks of
# one deployment no process lives, so the file `owner` says whose turn it is: another deployment group
# is turned away; the same group may go on, because CodeDeploy gives a group one deployment at a time
# on a host, and the deployment that rolls back must get in after one whose hook was killed.

readonly app=/srv/app
readonly lock=/run/site-deploy
readonly stale_minutes=180      # longer than all hooks of a deployment together may take
readonly id=${DEPLOYMENT_ID:?not run by CodeDeploy: DEPLOYMENT_ID is not set}
readonly group=${DEPLOYMENT_GROUP_NAME:?not run by CodeDeploy: DEPLOYMENT_GROUP_NAME is not set}
readonly release=$app/releases/$id
here=$(cd -P "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly here revision=${here%/hooks}
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
umask 022
cd /

# The name becomes part of paths.
[[ $id =~ ^[A-Za-z0-9_-]{1,64}$ ]] || { echo "DEPLOYMENT_ID $id is no id of a deployment" >&2; exit 1; }

say() { printf '%(%FT%TZ)T %s %s: %s\n' -1 "$id" "${0##*/}" "$*"; }
die() { say "FAILED: $*" >&2; exit 1; }

# shellcheck source=../deploy.conf
. "$revision/deploy.conf"
if [[ -r $revision/deploy.$group.conf ]]; then
    # shellcheck source=/dev/null
    . "$revision/deploy.$group.conf"
fi
: "${site_host:?deploy.conf does not say site_host}" "${wsgi:?deploy.conf does not say wsgi}"
: "${web:=web}" "${workers=worker}" "${keep:=3}" "${migrate:=no}"
: "${answer_paths:=/health}" "${validate_paths:=/health}" "${patience:=30}"

# Only one hook at a time. The kernel lets go when the last process that has descriptor 9 is gone.
only_one() {
    exec 9<"$lock/guard" || die "$lock/guard is not there: has hooks/prepare run since the last boot?"
    flock --nonblock 9 || die "another deployment's hook is running on this host: $(owner)"
}

owner() { cat "$lock/owner" 2>/dev/null || echo nobody; }

# Claims the host for this deployment. `owner` holds: id, group.
claim() {
    local other_id='' other_group=''
    if [[ -e $lock/owner ]]; then
        read -r other_id other_group <"$lock/owner" || true
        if [[ $other_group != "$group" && -z $(find "$lock/owner" -mmin "+$stale_minutes") ]]; then
            die "deployment $other_id of group $other_group has this host; wait for it, or if it is dead: rm $lock/owner"
        fi
        [[ $other_id == "$id" ]] || say "takes over from $other_id of group $other_group, which did not finish"
    fi
    printf '%s %s\n' "$id" "$group" >"$lock/owner.new"
    mv -T "$lock/owner.new" "$lock/owner"
}

# Goes on only if the host is ours.
still_ours() {
    [[ $(owner) == "$id $group" ]] || die "this host belongs to another deployment: $(owner)"
}

# Gives the host back. Nothing to do if it is not ours any more.
give_back() {
    if [[ $(owner) == "$id $group" ]]; then rm -f "$lock/owner"; fi
}

# The name of the release that a link of $app points to; nothing if there is none.
linked() { local to; to=$(readlink "$app/$1") && printf '%s\n' "${to##*/}"; }

# point current|previous ID: one rename, so that whoever looks sees the old release or the new one.
point() {
    ln -sfn "releases/$2" "$app/.$1.$$"
    mv -T "$app/.$1.$$" "$app/$1"
}

readonly ctl=(palisade --socket /run/palisade/control.sock)

roll_seconds=600

# One process after another, each only when the one before is ready; ends at the first that is not.
roll() {
    say "restarts $*, one process at a time"
    timeout "$roll_seconds" "${ctl[@]}" restart --rolling "$@"
}

# Celery finishes the tasks it has (a warm shutdown, up to the program's stopwaitsecs).
replace() {
    [[ $# -gt 0 ]] || return 0
    say "restarts $*; each finishes the task it has"
    timeout 900 "${ctl[@]}" restart "$@"
}

# fall_back PROGRAM...: puts the release back that served before this deployment, and restarts those
# programs on it. Does not end the hook.
fall_back() {
    local good
    good=$(linked previous || true)
    if [[ $(linked current || true) != "$id" ]]; then
        say "this release is not in use; nothing to put back"
    elif [[ -n $good && $good != "$id" && -d $app/releases/$good ]]; then
        say "puts $good back"
        point current "$good"
        roll_seconds=1500       # workers as well, and they may have tasks to finish
        roll "$@" || say "FAILED to restart on $good; look at it now: palisade status" >&2
    else
        say "there was no release before this one: the link goes, the programs stop"
        rm -f "$app/current"
        timeout 900 "${ctl[@]}" stop "$@" || true
    fi
}

# Removes what is older than the newest $keep releases, and environments that no release uses. What is
# in use, and what would be put back, stays.
prune() {
    local name in_use venv
    in_use=$(linked current || true)
    # shellcheck disable=SC2012 # the names are checked ids
    ls -1t "$app/releases" | tail -n "+$((keep + 1))" | while read -r name; do
        [[ $name == "$in_use" || $name == "$(linked previous || true)" || $name == "$id" ]] && continue
        say "removes release $name"
        rm -rf "${app:?}/releases/$name"
    done
    for venv in "$app"/venvs/*; do
        [[ -d $venv ]] || continue
        compgen -G "$app/releases/*/venv" >/dev/null || continue
        if ! readlink "$app"/releases/*/venv | grep -qxF "$venv"; then
            say "removes environment ${venv##*/}"
            rm -rf "$venv"
        fi
    done
}
