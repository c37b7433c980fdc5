# After the whole transaction, when the files of the version before are gone: the running agent
# upgrades itself in place and is never restarted. On a fresh installation none runs.
# One that is just starting has the old file in memory and cannot be asked yet.
tries=30
while [ -d /run/systemd/system ] && [ "$tries" -gt 0 ] &&
    [ "$(systemctl show -P SubState palisade.service)" = start ]; do
    sleep 1
    tries=$((tries - 1))
done
if [ -d /run/systemd/system ] && systemctl is-active --quiet palisade.service; then
    if ! timeout 120 /usr/bin/palisade upgrade; then
        cat >&2 <<'TEXT'
palisade: ===================================================================
palisade: THE RUNNING AGENT WAS NOT UPGRADED. It goes on as the version before;
palisade: programs and firewall are untouched. The reason is above and in
palisade: `systemctl status palisade`. Mend it and run `palisade upgrade`.
palisade: ===================================================================
TEXT
    fi
fi
