#!/bin/busybox sh
# The guest's first program: loads the disk's driver, mounts the disk and becomes its init.
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t devtmpfs dev /dev
for module in virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_blk; do
    $b insmod /modules/$module.ko
done
for word in $($b cat /proc/cmdline); do
    case $word in root=*) root=${word#root=} ;; esac
done
tries=0
while [ ! -b "$root" ] && [ $tries -lt 200 ]; do
    $b sleep 0.05
    tries=$((tries + 1))
done
# Without a root the kernel panics, and QEMU ends: the harness shows this line.
$b mount -t ext4 -o rw,noatime "$root" /root || $b echo "palisade: cannot mount $root"
$b umount /proc
$b mount --move /dev /root/dev
exec $b switch_root /root /sbin/init
