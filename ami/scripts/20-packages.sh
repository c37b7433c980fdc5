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

# The users that deploy/codedeploy uses, as its `prepare` makes them: `deploy` owns the code, `app` runs
# it and cannot change it; what programs may write is below shared/. A shell, because CodeDeploy starts
# hooks by `su USER -c`; no password and no key, so nobody logs in.
getent group site > /dev/null || groupadd --system site
for user in deploy app; do
    getent passwd "$user" > /dev/null ||
        useradd --system --gid site --home-dir /srv/app --no-create-home --shell /bin/sh "$user"
done
usermod --append --groups palisade deploy
install -d -m 0755 -o deploy -g site /srv/app /srv/app/releases
install -d -m 0750 -o app -g site /srv/app/shared
install -d -m 0750 -o root -g site /etc/site

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
