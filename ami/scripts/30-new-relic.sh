# New Relic's infrastructure agent, if a version was asked for. It is installed and disabled: a host
# that has a licence key writes /etc/newrelic-infra.yml and enables it.

if [ -z "$NEW_RELIC_VERSION" ]; then
    echo "New Relic: not asked for"
    exit 0
fi
if [ -z "$NEW_RELIC_KEY_SHA256" ]; then
    echo "new_relic_version without new_relic_key_sha256: the signing key must be pinned" >&2
    exit 1
fi

keyring=/usr/share/keyrings/newrelic-infra.asc
base=https://download.newrelic.com/infrastructure_agent
python3 - "$base/gpg/newrelic-infra.gpg" $keyring << 'EOF'
import sys, urllib.request
with urllib.request.urlopen(sys.argv[1], timeout=60) as answer, open(sys.argv[2], "wb") as file:
    file.write(answer.read(1 << 20))
EOF
if ! echo "$NEW_RELIC_KEY_SHA256  $keyring" | sha256sum --check --status; then
    rm -f $keyring
    echo "New Relic's signing key has not the checksum $NEW_RELIC_KEY_SHA256" >&2
    exit 1
fi
echo "deb [signed-by=$keyring arch=amd64] $base/linux/apt bookworm main" \
    > /etc/apt/sources.list.d/newrelic-infra.list
apt-get -q -o APT::Update::Error-Mode=any update
apt-get -q -y --no-install-recommends install "newrelic-infra=$NEW_RELIC_VERSION"
systemctl disable --now newrelic-infra.service
