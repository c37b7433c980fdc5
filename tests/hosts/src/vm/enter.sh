# Enters a tree as root directory: TREE COUNT FOLDER... PROGRAM ARG...
# Runs in a fresh mount namespace, so that nothing is left behind; `exec` keeps the pid.
tree=$1 count=$2
shift 2
mount --make-rprivate /
room=/run/palisade-tools
mkdir -p $room
mount -t tmpfs -o size=2g,mode=0755 palisade-tools $room
mkdir $room/upper $room/work $room/root
mount -t overlay -o "lowerdir=$tree,upperdir=$room/upper,workdir=$room/work" palisade-tools $room/root
for folder in /proc /sys /dev; do
    mount --rbind $folder $room/root$folder
done
while [ "$count" -gt 0 ]; do
    mkdir -p "$room/root$1"
    mount --rbind "$1" "$room/root$1"
    shift
    count=$((count - 1))
done
if [ -e /etc/resolv.conf ]; then
    rm -f $room/root/etc/resolv.conf
    cat /etc/resolv.conf > $room/root/etc/resolv.conf
fi
exec chroot $room/root "$@"
