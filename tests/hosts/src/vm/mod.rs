//! Guests under QEMU, without KVM: a kernel of their own, for what a container cannot show (limits that
//! bite, an out-of-memory kill, a reboot, a sealed image's first boot).
//!
//! [`Kit::build`] boots Debian once and keeps the running guest as a snapshot; [`Vm::restore`] gives
//! each test a copy of it in seconds. QEMU runs inside the tools tree, since it cannot be installed
//! on every machine. All that a guest leaves on the machine goes with its [`Vm`].

mod bounded;
mod cpio;
mod guest;
mod image;
mod kernel;
mod kit;
mod lab;
mod monitor;
mod qemu;
mod shell;
mod sweep;
mod toolbox;

pub(crate) use bounded::run;
pub use guest::{Disk, Lab, Options, Vm};
pub use image::{Extra, Image, Login};
pub use kit::Kit;
pub use toolbox::Toolbox;
