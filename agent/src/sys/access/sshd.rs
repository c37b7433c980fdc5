//! The drop-in that makes sshd ask for granted keys: put in place and taken away so that sshd's
//! configuration is valid at every moment.

/// The drop-in, below sshd's directory. An early number: sshd takes the first value that it meets.
pub const DROP_IN: &str = "sshd_config.d/50-palisade.conf";
