# What a build is told. Nothing here is a secret: keys and licences are never part of an image.

variable "agent_deb" {
  type        = string
  description = "The agent's package, as `cargo xtask package` made it."
}

variable "agent_version" {
  type        = string
  description = "The agent's version; the build fails if the package has another."
}

variable "git_sha" {
  type        = string
  description = "The commit that the package was built from."
  default     = "unknown"
}

# --- amazon-ebs

variable "region" {
  type        = string
  description = "Where the image is built."
  default     = "eu-central-1"
}

variable "instance_type" {
  type    = string
  default = "t3.small"
}

variable "subnet_id" {
  type        = string
  description = "A private subnet with a way to SSM, S3 and Debian's mirrors (NAT or endpoints)."
  default     = ""
}

variable "instance_profile" {
  type        = string
  description = "The builder's instance profile. It needs AmazonSSMManagedInstanceCore and nothing else."
  default     = "palisade-image-builder"
}

variable "source_ami" {
  type        = string
  description = "Pins the image to start from, e.g. the value of an SSM parameter. Empty: Debian's newest. Either way it must be Debian's."
  default     = ""
}

variable "kms_key_id" {
  type        = string
  description = "Our own key for the image's snapshots, in `region`. Its alias, id or ARN."
  default     = "alias/palisade-ami"
}

variable "copies" {
  type        = map(string)
  description = "Regions to copy to, each with the key to encrypt by there."
  default     = {}
}

variable "share_with_accounts" {
  type        = list(string)
  description = "Accounts that may start the image. The key's policy must let them use it."
  default     = []
}

variable "share_with_organizations" {
  type        = list(string)
  description = "ARNs of organizations that may start the image."
  default     = []
}

variable "deprecate_after_hours" {
  type        = number
  description = "When EC2 stops to list the image. Running instances do not mind."
  default     = 4320
}

variable "publish_to" {
  type        = string
  description = "The environment whose parameter /palisade/<env>/ami/origin gets the image's id. Empty: none."
  default     = ""
  validation {
    condition     = var.publish_to == "" || can(regex("^[a-z0-9-]{1,32}$", var.publish_to))
    error_message = "The environment's name must be at most 32 of a-z, 0-9 and '-'."
  }
}

variable "new_relic_version" {
  type        = string
  description = "Version of New Relic's infrastructure agent to install. Empty: none. The licence key is set on the host, not in the image."
  default     = ""
}

variable "new_relic_key_sha256" {
  type        = string
  description = "Checksum of New Relic's package signing key. Needed when a version is given."
  default     = ""
}

# --- qemu: `cargo xtask ami build` sets these

variable "qemu_disk" {
  type    = string
  default = ""
}

variable "qemu_kernel" {
  type    = string
  default = ""
}

variable "qemu_initrd" {
  type    = string
  default = ""
}

variable "qemu_key" {
  type        = string
  description = "The private key that the disk's user `admin` lets in."
  default     = ""
}

variable "output" {
  type        = string
  description = "Where artefacts go: the manifest, the SBOM, the qemu image in `image/`."
  default     = "output"
}
