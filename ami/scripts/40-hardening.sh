# Less to attack. Each setting is a file of its own place that says so, and scripts/50-checks.sh looks at
# the effect, not at the file.

# --- ssh: keys and certificates only, nobody as root, one kind of host key.
cat > /etc/ssh/sshd_config.d/10-palisade-image.conf << 'EOF'
# From the image. Forwarding stays: tunnels through the bastion need it.
HostKey /etc/ssh/ssh_host_ed25519_key
PermitRootLogin no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitEmptyPasswords no
X11Forwarding no
AllowAgentForwarding no
MaxAuthTries 4
LoginGraceTime 30
ClientAliveInterval 300
ClientAliveCountMax 2
EOF
sshd -t
passwd --quiet --lock root

# --- kernel
cat > /etc/sysctl.d/60-palisade-image.conf << 'EOF'
# From the image.
kernel.kptr_restrict = 2
kernel.dmesg_restrict = 1
kernel.sysrq = 0
kernel.unprivileged_bpf_disabled = 1
kernel.yama.ptrace_scope = 1
fs.suid_dumpable = 0
fs.protected_hardlinks = 1
fs.protected_symlinks = 1
fs.protected_fifos = 2
fs.protected_regular = 2
net.core.bpf_jit_harden = 2
net.ipv4.conf.all.accept_redirects = 0
net.ipv4.conf.default.accept_redirects = 0
net.ipv4.conf.all.secure_redirects = 0
net.ipv4.conf.default.secure_redirects = 0
net.ipv4.conf.all.send_redirects = 0
net.ipv4.conf.default.send_redirects = 0
net.ipv4.conf.all.accept_source_route = 0
net.ipv4.conf.default.accept_source_route = 0
net.ipv4.tcp_syncookies = 1
net.ipv6.conf.all.accept_redirects = 0
net.ipv6.conf.default.accept_redirects = 0
EOF
cat > /etc/modprobe.d/palisade-image.conf << 'EOF'
# From the image: protocols and file systems that an origin never uses, loadable by anybody otherwise.
install dccp /bin/false
install sctp /bin/false
install rds /bin/false
install tipc /bin/false
install cramfs /bin/false
install hfs /bin/false
install hfsplus /bin/false
install udf /bin/false
EOF

# --- no core dumps: they hold secrets of the application.
install -d /etc/security/limits.d /etc/systemd/system.conf.d
echo '* hard core 0' > /etc/security/limits.d/60-palisade-image.conf
printf '[Manager]\nDumpCore=no\nDefaultLimitCORE=0\n' > /etc/systemd/system.conf.d/60-palisade-image.conf
systemctl mask ctrl-alt-del.target

# --- the journal survives a reboot and does not fill the disk.
install -d /etc/systemd/journald.conf.d
printf '[Journal]\nStorage=persistent\nSystemMaxUse=500M\nSystemKeepFree=1G\n' \
    > /etc/systemd/journald.conf.d/60-palisade-image.conf

# --- files of new users are theirs.
sed -i 's/^UMASK.*/UMASK 027/' /etc/login.defs

# --- the clock: EC2's own, which needs no route; the others where there is none.
install -d /etc/systemd/timesyncd.conf.d
printf '[Time]\nNTP=169.254.169.123\nFallbackNTP=2.debian.pool.ntp.org\n' \
    > /etc/systemd/timesyncd.conf.d/60-palisade-image.conf
systemctl enable systemd-timesyncd.service

systemctl enable nftables.service
