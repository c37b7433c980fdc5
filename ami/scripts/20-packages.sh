# What an origin host runs: NGINX, Python with venv, the time, the agent; and the places where a Django
# application, its Gunicorn and its Celery workers live.

get() {
    apt-get -q -y -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confdef \
        -o Dpkg::Options::=--force-confold --no-install-recommends install "$@"
}

missing=
for package in nginx-light python3 python3-venv systemd-timesyncd ca-certificates nftables sudo; do
    dpkg-query -W -f '${db:Status-Status}' "$package" 2> /dev/null | grep -qx installed ||
        missing="$missing $package"
done
# shellcheck disable=SC2086 # a list of words
[ -z "$missing" ] || get $missing

# Not started here: without /etc/palisade/palisade.yaml, which each host gets when it is enrolled, the
# unit's condition fails.
get /tmp/palisade.deb
rm -f /tmp/palisade.deb
have=$(dpkg-query -W -f '${Version}' palisade)
case $have in
"$AGENT_VERSION"-*) ;;
*)
    echo "palisade $have is installed, $AGENT_VERSION was asked for" >&2
    exit 1
    ;;
esac

# The application's user owns nothing of its own code: a deploy writes as root, the programs read. What
# they may write is below shared/.
install -d -m 0755 -o root -g root /srv/app /srv/app/releases
if ! getent passwd app > /dev/null; then
    adduser --quiet --system --group --home /srv/app --no-create-home --shell /usr/sbin/nologin app
fi
install -d -m 0750 -o app -g app /srv/app/shared /srv/app/shared/media /srv/app/shared/run
install -d -m 0750 -o root -g app /etc/palisade/app.d

# Debian's welcome page is nobody's site. A deploy brings its own, and NGINX listens to nothing before.
rm -f /etc/nginx/sites-enabled/default
install -d -m 0755 /etc/nginx/palisade
cat > /etc/nginx/conf.d/00-palisade.conf << 'EOF'
# The agent's map of the secret header that CloudFront adds is included by the site's own file.
server_tokens off;
EOF
nginx -t -q
# Debian started it with that page.
systemctl restart nginx.service
