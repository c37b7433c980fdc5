# After the whole transaction, when the files of the version before are gone: the running agent
# upgrades itself in place and is never restarted. On a fresh installation none runs.
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
