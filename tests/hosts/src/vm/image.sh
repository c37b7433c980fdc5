# Makes a guest's disk: BASE KERNEL KEY OUT SIZE USER PACKAGES. Runs inside the tools tree.
# The base tree is read only; what is added lies over it in memory until mke2fs has read both.
base=$1 kernel=$2 key=$3 out=$4 size=$5 user=$6 packages=$7
room=/tmp/image
mkdir -p $room
mount -t tmpfs -o size=2g image $room
mkdir $room/upper $room/work $room/tree
mount -t overlay -o "lowerdir=$base,upperdir=$room/upper,workdir=$room/work" image $room/tree
tree=$room/tree

cp -a "$kernel/lib/modules" $tree/usr/lib/
for version in "$kernel"/lib/modules/*; do
    chroot $tree depmod "${version##*/}"
done

units=$tree/etc/systemd/system
# Without KVM each of these takes seconds, and no test looks at them.
for unit in e2scrub_reap.service e2scrub_all.timer fstrim.timer dpkg-db-backup.timer \
    systemd-binfmt.service systemd-networkd-wait-online.service sys-kernel-debug.mount \
    sys-kernel-tracing.mount dev-hugepages.mount modprobe@efi_pstore.service \
    modprobe@drm.service getty@tty1.service; do
    ln -sf /dev/null "$units/$unit"
done
: > $tree/etc/fstab
: > $tree/etc/machine-id
echo guest > $tree/etc/hostname
echo '127.0.0.1 localhost guest' > $tree/etc/hosts
# Modules that unprivileged services of a test would otherwise have to wait for.
printf '%s\n' nf_tables nft_ct nft_limit nft_log nft_reject_inet > $tree/etc/modules-load.d/guest.conf
mkdir -p $units/multi-user.target.wants
ln -sf /lib/systemd/system/systemd-networkd.service $units/multi-user.target.wants/
mkdir -p $tree/etc/systemd/network
# The second interface leads to the laboratory, which the harness sets up.
printf '[Match]\nName=eth1\n[Link]\nUnmanaged=yes\n' > $tree/etc/systemd/network/51-lab.network

rm -f $tree/etc/ssh/ssh_host_*

if [ "$user" = root ]; then
    for unit in apt-daily.timer apt-daily-upgrade.timer; do ln -sf /dev/null "$units/$unit"; done
    printf '[Match]\nName=eth0\n[Network]\nAddress=10.0.2.15/24\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n' \
        > $tree/etc/systemd/network/50-control.network
    home=$tree/root
    ssh-keygen -q -t ed25519 -N '' -C guest -f $tree/etc/ssh/ssh_host_ed25519_key
else
    printf '[Match]\nName=eth0\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n' \
        > $tree/etc/systemd/network/50-control.network
    chroot $tree useradd --create-home --shell /bin/bash "$user"
    echo "$user ALL=(ALL) NOPASSWD:ALL" > "$tree/etc/sudoers.d/90-$user"
    chmod 0440 "$tree/etc/sudoers.d/90-$user"
    home=$tree/home/$user
    ssh-keygen -A -f $tree > /dev/null
fi
mkdir -p "$home"/.ssh
cp "$key" "$home"/.ssh/authorized_keys
chmod 0700 "$home"/.ssh
chmod 0600 "$home"/.ssh/authorized_keys
chown -R --reference="$home" "$home"/.ssh

if [ -n "$packages" ]; then
    # Nothing is started, as in any tree that is not running.
    printf '#!/bin/sh\nexit 101\n' > $tree/usr/sbin/policy-rc.d
    chmod 0755 $tree/usr/sbin/policy-rc.d
    cat /etc/resolv.conf > $tree/etc/resolv.conf
    mount --bind /dev $tree/dev
    mount -t proc proc $tree/proc
    chroot $tree apt-get -qq update -o APT::Update::Error-Mode=any
    # shellcheck disable=SC2086 # a list of words
    DEBIAN_FRONTEND=noninteractive chroot $tree apt-get -qq -y --no-install-recommends install $packages > /dev/null
    umount $tree/proc $tree/dev
    rm -f $tree/usr/sbin/policy-rc.d $tree/etc/resolv.conf
fi

rm -f "$out"
# Neither checksums nor a journal: the disk lives as long as its test.
mke2fs -q -t ext4 -F -O ^metadata_csum,^has_journal -E lazy_itable_init=1 -L root -d $tree "$out" "$size"
