# Takes away all that is this one machine's: identity, keys, logs, caches. Then looks whether any of it
# remains, and fails the build if so. Runs last; what comes after a seal breaks it.

# --- the agent: never enrolled, no state, no boot-time rules of this machine.
systemctl stop palisade.service palisade-firewall.service
rm -rf /var/lib/palisade /run/palisade
rm -f /etc/palisade/palisade.yaml
if [ -d /etc/palisade/conf.d ]; then find /etc/palisade/conf.d -type f -delete; fi

# --- the SSM agent's registration; its package and its unit stay.
if [ -d /var/lib/amazon/ssm ]; then
    rm -rf /var/lib/amazon/ssm/Vault /var/lib/amazon/ssm/i-* /var/lib/amazon/ssm/registration
fi

# --- identity. machine-id is emptied and not removed: systemd fills an empty one at boot.
# The seed is saved whenever its unit is stopped, at shutdown too: so it is stopped first.
systemctl stop systemd-random-seed.service
rm -f /etc/ssh/ssh_host_*
: > /etc/machine-id
rm -f /var/lib/dbus/machine-id /var/lib/systemd/random-seed /var/lib/systemd/credential.secret
if command -v cloud-init > /dev/null; then cloud-init clean --logs --seed; fi

# --- whoever built it. Packer's open connection does not need its key any more.
for home in /root /home/*; do
    rm -f "$home"/.ssh/authorized_keys "$home"/.ssh/known_hosts "$home"/.*_history "$home"/.sudo_as_admin_successful
done

# --- caches and logs.
apt-get -q clean
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/debconf/*-old /var/lib/dpkg/*-old
systemctl stop systemd-journald.socket systemd-journald-dev-log.socket systemd-journald-audit.socket systemd-journald.service
rm -rf /var/log/journal/* /run/log/journal/*
# Its own folder, so that the next boot keeps a journal on disk.
find /var/log -type f ! -path '/var/log/journal/*' -exec truncate -s 0 {} +
rm -rf /var/lib/dhcp/*.leases /var/lib/systemd/timesync/clock
find /tmp /var/tmp -mindepth 1 -maxdepth 1 ! -name 'script_*.sh' ! -name 'systemd-private-*' -exec rm -rf {} +

# --- does any of it remain?
left=0
gone() {
    for path in "$@"; do
        if [ -e "$path" ]; then
            echo "left behind: $path" >&2
            left=1
        fi
    done
}
gone /etc/ssh/ssh_host_* /root/.ssh/authorized_keys /home/*/.ssh/authorized_keys /root/.bash_history \
    /var/lib/palisade /etc/palisade/palisade.yaml /var/lib/systemd/random-seed /var/lib/apt/lists/*Packages \
    /var/cache/apt/archives/*.deb /var/log/journal/* /var/lib/amazon/ssm/Vault /tmp/palisade.deb
if [ -s /etc/machine-id ]; then
    echo "left behind: machine-id" >&2
    left=1
fi
if [ ! -e "/home/$BUILD_USER" ]; then
    echo "there is no user $BUILD_USER: whose key was to be removed?" >&2
    left=1
fi
[ $left -eq 0 ] || exit 1
sync
