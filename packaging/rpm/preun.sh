# Before the files go: $1 is 0 for an erasure, 1 or more for an upgrade.
if [ "$1" -eq 0 ]; then
    # It names a command that is about to go; without it sshd goes back to its own keys.
    if [ -e /etc/ssh/sshd_config.d/60-palisade.conf ]; then
        rm -f /etc/ssh/sshd_config.d/60-palisade.conf
        systemctl try-reload-or-restart sshd.service ssh.service >/dev/null 2>&1 || :
    fi
    systemctl --no-reload disable palisade.service palisade-firewall.service >/dev/null 2>&1 || :
    if [ -d /run/systemd/system ]; then
        systemctl stop palisade.service palisade-firewall.service >/dev/null 2>&1 || :
    fi
fi
