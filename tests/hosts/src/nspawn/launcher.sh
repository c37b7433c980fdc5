# PID 1 of the mount and process namespaces that one test host lives in: all of it goes with this
# shell, and this shell goes when its standard input ends.
# usage: DIR BASE CGROUPS NSPAWN-ARGUMENTS...
set -eu
dir=$1 base=$2 cgroups=$3
shift 3
root=$dir/root

# A cgroup of its own: nspawn would put every host into the one that we happen to be in.
for cgroup in $cgroups; do echo $$ > "$cgroup/cgroup.procs"; done

mount -t overlay palisade-host -o "lowerdir=$base,upperdir=$dir/upper,workdir=$dir/work" "$root"

inside() {
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
        chroot "$root" "$@" < /dev/null
}

prepare() {
    [ ! -x "$root/usr/sbin/sshd" ] || [ -e "$root/etc/ssh/ssh_host_ed25519_key" ] ||
        inside ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key || return
    [ -e "$dir/before-boot" ] || return 0
    mount -t proc proc "$root/proc" && mount --bind /dev "$root/dev" || return
    inside sh -eux -c "$(cat "$dir/before-boot")" || return
    umount "$root/proc" "$root/dev"
}

prepare > "$dir/prepare.log" 2>&1 && rc=0 || rc=$?
echo "$rc" > "$dir/prepared.new"
mv "$dir/prepared.new" "$dir/prepared"

boot() {
    # 133: the host asked for a reboot, and nspawn does not do that by itself under --keep-unit.
    rc=133
    while [ "$rc" = 133 ]; do
        systemd-nspawn "$@" < /dev/null >> "$dir/console.log" 2>&1 && rc=0 || rc=$?
    done
    echo "$rc" > "$dir/ended"
}

while read -r word; do
    case $word in
        boot) boot "$@" & ;;
    esac
done
