# The ground: the machine has finished its own first boot, nothing else uses dpkg, and all of Debian's
# updates are in. Idempotent, as all of these scripts are.

# cloud-init writes users and package sources; its exit code 2 is "done, with a warning told".
if command -v cloud-init > /dev/null; then
    cloud-init status --wait > /dev/null || [ $? -eq 2 ]
fi

# The agent owns patching. A timer that fires in the middle of a build would hold dpkg's lock.
units="apt-daily.timer apt-daily-upgrade.timer apt-daily.service apt-daily-upgrade.service
    unattended-upgrades.service"
# Stopped first: a masked timer that is taken away while it runs counts as failed. One that is not
# installed cannot be stopped, and need not be.
# shellcheck disable=SC2086 # a list of words
systemctl stop $units 2> /dev/null || :
# shellcheck disable=SC2086
systemctl mask --quiet $units 2> /dev/null

# A local image is built from a tree that is as new as its packages, and may be offline.
if [ "$PACKER_BUILDER_TYPE" = amazon-ebs ]; then
    apt-get -q -o DPkg::Lock::Timeout=300 -o APT::Update::Error-Mode=any update
    apt-get -q -y -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confdef \
        -o Dpkg::Options::=--force-confold full-upgrade
fi
