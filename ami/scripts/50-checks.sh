# What must be true of the image. Every check runs, every failure is told, and one is enough to fail the
# build. Checks look at effects: what sshd would do, what listens, what is enabled.

failures=0
# check TEXT COMMAND...: the command must succeed.
check() {
    text=$1
    shift
    if "$@" > /tmp/check.out 2>&1; then
        echo "ok: $text"
    else
        echo "FAILED: $text" >&2
        sed 's/^/    /' /tmp/check.out >&2
        failures=$((failures + 1))
    fi
}
# none TEXT COMMAND...: the command must print nothing, and what it prints is the finding.
none() {
    text=$1
    shift
    if "$@" > /tmp/check.out 2>&1 && [ ! -s /tmp/check.out ]; then
        echo "ok: $text"
    else
        echo "FAILED: $text" >&2
        sed 's/^/    /' /tmp/check.out >&2
        failures=$((failures + 1))
    fi
}
sshd_says() { sshd -T -C user=admin,host=localhost,addr=127.0.0.1 | grep -qix "$1"; }
is_masked() { [ "$(systemctl is-enabled "$1" 2> /dev/null)" = masked ]; }
is_installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1")" = installed ]; }

# --- ssh
check 'sshd accepts its configuration' sshd -t
for line in 'permitrootlogin no' 'passwordauthentication no' 'kbdinteractiveauthentication no' \
    'permitemptypasswords no' 'x11forwarding no' 'maxauthtries 4'; do
    check "sshd: $line" sshd_says "$line"
done

# --- users
# shellcheck disable=SC2016 # awk's dollars
none 'no account has an empty password' awk -F: '$2 == "" { print $1 }' /etc/shadow
# shellcheck disable=SC2016
none 'only root has uid 0' awk -F: '$3 == 0 && $1 != "root" { print $1 }' /etc/passwd
check "root's password is locked" grep -q '^root:[!*]' /etc/shadow

# --- files
none 'no world-writable file or open folder' find / -xdev \( -path /proc -o -path /sys -o -path /tmp/check.out \) -prune \
    -o \( -type f -perm -0002 -o -type d -perm -0002 ! -perm -1000 \) -print
# What may run as another user, from Debian's own packages. Another name is a finding.
allowed='/usr/bin/(chage|chfn|chsh|expiry|gpasswd|mount|newgrp|passwd|su|sudo|umount|wall|write|write.ul|crontab|ssh-agent|dotlockfile|fusermount3?)'
allowed="$allowed|/usr/lib/(openssh/ssh-keysign|dbus-1.0/dbus-daemon-launch-helper)|/usr/sbin/unix_chkpwd"
unlisted_setuid() {
    find / -xdev -type f \( -perm -4000 -o -perm -2000 \) | grep -Evx "($allowed)" || [ $? -eq 1 ]
}
none 'no unknown setuid or setgid program' unlisted_setuid
open_units() { find /etc/systemd /usr/lib/systemd -xdev -type f \( -perm /0022 -o ! -user root \); }
none 'no unit can be written by others than root' open_units

# --- what runs
listening() { ss -Hlntu | awk '{ print $1, $5 }' | grep -Ev ' ([^ ]*:22|127\.0\.0\.[0-9]+(%lo)?:[0-9]+|\[::1\]:[0-9]+|[^ ]*%eth[0-9]+:68)$' || [ $? -eq 1 ]; }
none 'nothing listens but ssh' listening
failed_units() { systemctl list-units --failed --no-legend --plain; }
none 'no unit has failed' failed_units
for unit in apt-daily.timer apt-daily-upgrade.timer unattended-upgrades.service ctrl-alt-del.target; do
    check "$unit is masked" is_masked "$unit"
done
for unit in palisade.service palisade-firewall.service systemd-timesyncd.service ssh.service; do
    check "$unit is enabled" systemctl is-enabled --quiet "$unit"
done
check 'the journal is kept on disk' grep -q '^Storage=persistent' /etc/systemd/journald.conf.d/60-palisade-image.conf

# --- kernel: the files are read at boot; here they are applied and read back.
check 'sysctl settings are understood' sysctl -q -p /etc/sysctl.d/60-palisade-image.conf
for setting in kernel.kptr_restrict=2 kernel.dmesg_restrict=1 net.ipv4.conf.all.accept_redirects=0; do
    check "sysctl $setting" test "$(sysctl -n "${setting%=*}")" = "${setting#*=}"
done

# --- packages
for package in palisade nginx-light python3-venv nftables; do
    check "$package is installed" is_installed "$package"
done
none 'no package is half installed' dpkg --audit
check 'the agent is intact' dpkg --verify palisade
check 'the agent runs' palisade --version
check 'the agent accepts its own example' palisade check -c /usr/lib/palisade/palisade.yaml.example
check 'NGINX accepts its configuration' nginx -t -q
if [ "$PACKER_BUILDER_TYPE" = amazon-ebs ]; then
    check "the SSM agent is there, for it is the hosts' only door" is_installed amazon-ssm-agent
fi

# --- not enrolled: what makes a host one host is never part of an image.
check 'no configuration of a host' test ! -e /etc/palisade/palisade.yaml
check 'the agent is not running' sh -c '! systemctl is-active --quiet palisade.service'

rm -f /tmp/check.out
if [ "$failures" -gt 0 ]; then
    echo "$failures checks failed" >&2
    exit 1
fi
