# The image of an origin host. One template, two sources: the AMI, and a QEMU image that goes through
# the very same scripts, so that they can be tried without an AWS account.
#
# Parts between "#>= 1.7" and "#<" need a Packer newer than Debian's 1.6.6; `cargo xtask ami` cuts them
# out for its local checks and the qemu build. Nothing that the qemu build needs may be between them.

locals {
  stamp = formatdate("YYYYMMDDhhmmss", timestamp())
  name  = "palisade-origin-${var.agent_version}-${local.stamp}"
  tags = {
    Name         = local.name
    Project      = "palisade"
    Role         = "origin"
    AgentVersion = var.agent_version
    GitSha       = var.git_sha
    Base         = "debian-12"
    SourceAmi    = "{{ .SourceAMI }}"
    SourceName   = "{{ .SourceAMIName }}"
  }
  # Those of the builder: no image to name yet.
  builder_tags = {
    Name    = "build ${local.name}"
    Project = "palisade"
    GitSha  = var.git_sha
  }
  # Debian's image has no SSM agent, and without one there is no way to the builder.
  user_data = <<-EOF
    #!/bin/sh
    set -eu
    cd /run
    url=https://s3.${var.region}.amazonaws.com/amazon-ssm-${var.region}/latest/debian_amd64/amazon-ssm-agent.deb
    if command -v curl > /dev/null; then curl -fsS --retry 10 -o ssm.deb "$url"; else wget -q -O ssm.deb "$url"; fi
    dpkg -i ssm.deb
    systemctl enable --now amazon-ssm-agent
  EOF
}

source "amazon-ebs" "origin" {
  region        = var.region
  ami_name      = local.name
  instance_type = var.instance_type
  subnet_id     = var.subnet_id
  user_data     = local.user_data

  # Nobody reaches the builder but through SSM.
  associate_public_ip_address = false
  iam_instance_profile        = var.instance_profile
  communicator                = "ssh"
  ssh_interface               = "session_manager"
  ssh_username                = "admin"
  ssh_timeout                 = "15m"
  temporary_key_pair_type     = "ed25519"
  ssh_clear_authorized_keys   = true
  # The tunnel opens before sshd does.
  pause_before_ssm = "30s"

  # Debian's own account, whatever else has such a name. A pinned image is added to the filter.
  source_ami = var.source_ami
  source_ami_filter {
    owners      = ["136693071363"]
    most_recent = true
    filters = {
      name                = "debian-12-amd64-*"
      architecture        = "x86_64"
      root-device-type    = "ebs"
      virtualization-type = "hvm"
    }
  }

  encrypt_boot = true
  kms_key_id   = var.kms_key_id
  launch_block_device_mappings {
    device_name           = "/dev/xvda"
    volume_size           = 16
    volume_type           = "gp3"
    iops                  = 3000
    throughput            = 125
    encrypted             = true
    kms_key_id            = var.kms_key_id
    delete_on_termination = true
  }

  ami_regions        = keys(var.copies)
  region_kms_key_ids = var.copies
  ami_users          = var.share_with_accounts
  snapshot_users     = var.share_with_accounts

  tags            = local.tags
  snapshot_tags   = local.tags
  run_tags        = local.builder_tags
  run_volume_tags = local.builder_tags

  #>= 1.7
  # No IMDSv1: not while building, not in what is built.
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }
  imds_support = "v2.0"
  ami_org_arns = var.share_with_organizations
  deprecate_at = timeadd(timestamp(), "${var.deprecate_after_hours}h")
  #<
}

source "qemu" "origin" {
  # Without KVM, so that it runs anywhere; slow, and the scripts are short.
  accelerator      = "tcg"
  machine_type     = "pc"
  cpus             = 1
  memory           = 512
  headless         = true
  disk_image       = true
  iso_url          = var.qemu_disk
  iso_checksum     = "none"
  skip_resize_disk = true
  format           = "qcow2"
  disk_interface   = "virtio"
  net_device       = "virtio-net"
  vm_name          = "origin.qcow2"
  output_directory = "${var.output}/image"
  boot_wait        = "1s"
  shutdown_command = "sudo -n systemctl poweroff"
  shutdown_timeout = "4m"

  ssh_username           = "admin"
  ssh_private_key_file   = var.qemu_key
  ssh_timeout            = "9m"
  ssh_handshake_attempts = 300

  qemuargs = [
    ["-kernel", var.qemu_kernel],
    ["-initrd", var.qemu_initrd],
    ["-append", "root=/dev/vda rw console=ttyS0 net.ifnames=0 panic=-1 quiet mitigations=off systemd.show_status=0"],
    ["-cpu", "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt,+aes,+pclmulqdq"],
    # Packer's own would listen on all addresses.
    ["-netdev", "user,id=user.0,hostfwd=tcp:127.0.0.1:{{ .SSHHostPort }}-:22"],
    ["-device", "virtio-rng-pci"],
    ["-display", "none"],
    ["-serial", "file:${var.output}/console"],
  ]
}

build {
  sources = ["source.amazon-ebs.origin", "source.qemu.origin"]

  provisioner "file" {
    source      = var.agent_deb
    destination = "/tmp/palisade.deb"
  }

  provisioner "shell" {
    # One root shell for each script. Packer says by itself which builder it is.
    execute_command = "chmod +x {{ .Path }}; sudo -n env {{ .Vars }} sh -eu {{ .Path }}"
    environment_vars = [
      "DEBIAN_FRONTEND=noninteractive",
      "NEEDRESTART_SUSPEND=1",
      "AGENT_VERSION=${var.agent_version}",
      "NEW_RELIC_VERSION=${var.new_relic_version}",
      "NEW_RELIC_KEY_SHA256=${var.new_relic_key_sha256}",
    ]
    scripts = [
      "scripts/10-base.sh",
      "scripts/20-packages.sh",
      "scripts/30-new-relic.sh",
      "scripts/40-hardening.sh",
      "scripts/45-first-boot.sh",
      "scripts/50-checks.sh",
      "scripts/60-sbom.sh",
    ]
  }

  provisioner "file" {
    direction   = "download"
    source      = "/usr/share/palisade/sbom.spdx.json"
    destination = "${var.output}/sbom.spdx.json"
  }

  # Last: nothing may run after it that leaves a trace.
  provisioner "shell" {
    execute_command  = "chmod +x {{ .Path }}; sudo -n env {{ .Vars }} sh -eu {{ .Path }}"
    environment_vars = ["BUILD_USER=admin"]
    scripts          = ["scripts/90-seal.sh"]
  }

  post-processors {
    post-processor "manifest" {
      output     = "${var.output}/manifest.json"
      strip_path = true
      custom_data = {
        agent_version = var.agent_version
        git_sha       = var.git_sha
      }
    }
    post-processor "shell-local" {
      only             = ["amazon-ebs.origin"]
      environment_vars = ["PUBLISH_TO=${var.publish_to}"]
      inline           = ["./publish.sh ${var.output}/manifest.json"]
    }
  }
}
