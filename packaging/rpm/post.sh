# After the files are there: $1 is 1 for a fresh installation, 2 or more for an upgrade.
systemd-sysusers palisade.conf || :
install -d -m 0755 /etc/palisade /etc/palisade/conf.d || :
if [ -d /run/systemd/system ]; then
    systemd-tmpfiles --create palisade.conf || :
    systemctl daemon-reload || :
fi
if [ "$1" -eq 1 ]; then
    systemctl preset palisade.service palisade-firewall.service >/dev/null 2>&1 || :
fi
