//! Test hosts: real systemd machines in containers and under QEMU, and the network between them.
pub mod ami;
pub mod vm;
