# A sealed image has no ssh host keys. cloud-init makes them where it runs; where it does not, sshd would
# not start. This unit makes what is missing, and does nothing on every later boot.
cat > /etc/systemd/system/ssh-host-keys.service << 'EOF'
[Unit]
Description=Make the ssh host key that a sealed image does not have
ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key
After=systemd-random-seed.service cloud-init.service
Before=ssh.service

[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -q -t ed25519 -N "" -f /etc/ssh/ssh_host_ed25519_key
EOF
install -d /etc/systemd/system/ssh.service.d
printf '[Unit]\nWants=ssh-host-keys.service\nAfter=ssh-host-keys.service\n' \
    > /etc/systemd/system/ssh.service.d/10-host-keys.conf
systemctl daemon-reload
