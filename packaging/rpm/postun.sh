# After the files went. State under /var/lib/palisade and the rules in force stay, as for any rpm.
if [ "$1" -eq 0 ] && [ -d /run/systemd/system ]; then
    systemctl daemon-reload || :
fi
