# Before the files go: $1 is 0 for an erasure, 1 or more for an upgrade.
if [ "$1" -eq 0 ]; then
    # It names a command that is about to go; without it sshd goes back to its own keys. The verb checks
    # sshd's configuration before and after; where it cannot run, the file still has to go.
    if [ -e /etc/ssh/sshd_config.d/50-palisade.conf ]; then
        timeout 60 /usr/bin/palisade access remove || {
            rm -f /etc/ssh/sshd_config.d/50-palisade.conf
            systemctl try-reload-or-restart sshd.service >/dev/null 2>&1 || :
        }
    fi
    systemctl --no-reload disable palisade.service palisade-firewall.service >/dev/null 2>&1 || :
    if [ -d /run/systemd/system ]; then
        systemctl stop palisade.service palisade-firewall.service >/dev/null 2>&1 || :
    fi
fi
