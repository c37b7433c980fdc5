//! QEMU's command line, and the process.
//!
//! Machine, processor, memory and devices are the same for all guests of a kit: only then can a
//! snapshot be loaded.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Child,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};

use super::monitor::Monitor;
use crate::{tools, trees::Trees, wait};

/// How long QEMU may take to make its monitor's socket.
const LISTENS_WITHIN: Duration = Duration::from_secs(60);

const KERNEL_LINE: &str = "root=/dev/vda rw console=ttyS0 net.ifnames=0 panic=-1 quiet \
                           mitigations=off systemd.show_status=0";

/// A guest's machine.
#[derive(Debug)]
pub(super) struct Machine {
    /// Where `vmlinux` and `initrd` are.
    pub(super) kit: PathBuf,
    /// Where this guest's files are: `console`, `monitor`, `qemu.log`.
    pub(super) dir: PathBuf,
    /// A qcow2 file.
    pub(super) disk: PathBuf,
    /// MiB.
    pub(super) memory: u32,
    /// The guest's sshd on our loopback.
    pub(super) port: u16,
    /// The second interface: a tap device of the network that QEMU is started in, or nothing.
    pub(super) tap: Option<String>,
    /// Whether the firmware says that this is EC2.
    pub(super) is_ec2: bool,
}

/// How a machine comes to life.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum From {
    PowerOn,
    Snapshot,
}

impl Machine {
    /// Starts QEMU and connects to its monitor. `seen` is what it must find beside the trees.
    pub(super) fn start(&self, from: From, seen: &[&Path]) -> Result<(Child, Monitor)> {
        let socket = self.dir.join("monitor");
        drop(fs::remove_file(&socket));
        let trees = Trees::here();
        let mut all = vec![trees.dir(), &self.dir];
        all.extend(seen);
        let mut command = tools::cmd_with("qemu-system-x86_64", &all)?.args(self.args());
        if from == From::Snapshot {
            command = command.args(["-loadvm", SNAPSHOT]);
        }
        let mut child = command.daemon(&self.dir.join("qemu.log")).context("start QEMU")?;
        match self.connect(&mut child, &socket) {
            Ok(monitor) => Ok((child, monitor)),
            Err(e) => {
                drop(child.kill());
                drop(child.wait());
                Err(e)
            }
        }
    }

    fn connect(&self, child: &mut Child, socket: &Path) -> Result<Monitor> {
        let monitor = wait::try_for(LISTENS_WITHIN, || {
            match child.try_wait().context("wait for QEMU") {
                Ok(None) => {}
                Ok(Some(status)) => {
                    return Some(Err(anyhow!("QEMU ended with {status}: {}", self.log())));
                }
                Err(e) => return Some(Err(e)),
            }
            // The socket exists a moment before it is listened at.
            socket.exists().then(|| Monitor::connect(socket).ok()).flatten().map(Ok)
        });
        monitor.with_context(|| format!("no monitor of QEMU: {}", self.log()))?
    }

    /// What QEMU and the guest's console said last, for messages.
    pub(super) fn log(&self) -> String {
        let tail = |name: &str| {
            let bytes = fs::read(self.dir.join(name)).unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let from = text.lines().count().saturating_sub(25);
            text.lines().skip(from).collect::<Vec<_>>().join("\n")
        };
        format!("{}\n--- console\n{}", tail("qemu.log"), tail("console"))
    }

    fn args(&self) -> Vec<String> {
        // The kernel's AES for the kept ssh connection needs both instructions, and checks for one.
        let kit = self.kit.display();
        let dir = self.dir.display();
        let mut args: Vec<String> = words(
            "-nodefaults -no-user-config -no-reboot -display none -smp 1 -M pc-i440fx-7.2 \
             -cpu qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt,+aes,+pclmulqdq -accel tcg,tb-size=256 \
             -device virtio-rng-pci",
        );
        args.extend(["-m".to_owned(), self.memory.to_string()]);
        args.extend(["-kernel".to_owned(), format!("{kit}/vmlinux")]);
        args.extend(["-initrd".to_owned(), format!("{kit}/initrd")]);
        args.extend(["-append".to_owned(), KERNEL_LINE.to_owned()]);
        args.extend(words(&format!(
            "-drive if=none,id=d0,file={},format=qcow2,cache=unsafe,discard=unmap \
             -device virtio-blk-pci,drive=d0",
            self.disk.display()
        )));
        args.extend(words(&format!(
            "-netdev user,id=n0,restrict=on,hostfwd=tcp:127.0.0.1:{}-:22 \
             -device virtio-net-pci,netdev=n0,mac=02:aa:00:00:00:01,romfile=",
            self.port
        )));
        let lab = match &self.tap {
            Some(tap) => format!("tap,id=n1,ifname={tap},script=no,downscript=no"),
            None => "user,id=n1,restrict=on".to_owned(),
        };
        // The address on the wire is set in the guest: a snapshot remembers the one it had.
        args.extend(words(&format!(
            "-netdev {lab} -device virtio-net-pci,netdev=n1,mac=02:aa:00:00:00:02,romfile="
        )));
        args.extend(words(&format!(
            "-serial file:{dir}/console -qmp unix:{dir}/monitor,server=on,wait=off"
        )));
        if self.is_ec2 {
            let id = "ec2e1916-9099-7caf-fd21-012345abcdef";
            args.extend(
                ["-smbios", "type=0,vendor=Amazon EC2,version=1.0", "-smbios"].map(Into::into),
            );
            args.push(format!(
                "type=1,manufacturer=Amazon EC2,product=t3.small,uuid={id},serial={id}"
            ));
        }
        args
    }
}

/// The one snapshot of a kit.
pub(super) const SNAPSHOT: &str = "ready";

/// A port of our loopback that nobody listens at now.
pub(super) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("find a free port")?;
    Ok(listener.local_addr().context("find a free port")?.port())
}

fn words(line: &str) -> Vec<String> {
    line.split_ascii_whitespace().map(str::to_owned).collect()
}
