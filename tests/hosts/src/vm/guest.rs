//! One guest, from its restore (or its power button) to its end.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Child,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail};

use super::{
    kit::{Kit, MEMORY},
    monitor::Monitor,
    place::Place,
    plug::Plug,
    qemu::{self, From, Machine},
    script,
    shell::{self, Address, Shell},
};
use crate::{exec::Output, lab::Lab, wait};

/// What a command in a guest may take, unless said otherwise.
const PATIENCE: Duration = Duration::from_secs(180);

/// How long an orderly shutdown may take.
const DOWN_WITHIN: Duration = Duration::from_secs(240);

/// How a guest is made.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its host name, when restored. An image's own name is left as it is.
    pub name: String,
    /// The network that it is in with its second interface, and its address there.
    pub lab: Option<(Lab, Ipv4Addr)>,
    /// Whether its firmware says that it is an EC2 instance. Not for snapshots.
    pub is_ec2: bool,
    /// How long it may take to answer.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        let patience = Duration::from_secs(300);
        Self { name: "guest".to_owned(), lab: None, is_ec2: false, patience }
    }
}

/// A disk image that is not a kit's own.
#[derive(Clone, Debug)]
pub struct Disk {
    /// A raw file system; the guest gets a layer over it and never writes to it.
    pub file: PathBuf,
    /// Who may log in with the kit's key, and use `sudo`.
    pub user: String,
}

/// A running guest. Ends with its value, and leaves nothing.
#[derive(Debug)]
pub struct Vm {
    shell: Option<Shell>,
    monitor: Monitor,
    qemu: Child,
    machine: Machine,
    address: Address,
    patience: Duration,
    // What QEMU finds beside the trees.
    seen: Vec<PathBuf>,
    // In this order: the device goes after QEMU, the folder last.
    plug: Option<Plug>,
    place: Place,
}

impl Vm {
    /// A guest as the kit's snapshot has it: booted, idle, with the right time.
    ///
    /// # Errors
    /// When it does not answer; with what its console said.
    pub fn restore(kit: &Kit, options: &Options) -> Result<Self> {
        let place = Place::new()?;
        let disk = place.path().join("disk");
        fs::copy(kit.snapshot_file(), &disk).context("copy the snapshot")?;
        let vm = Self::start(kit, place, disk, "root", Vec::new(), options, From::Snapshot)?;
        vm.set_clock()?;
        let name = &options.name;
        vm.ok(&format!(
            "hostname {name}; echo {name} > /etc/hostname; systemd-id128 new > /etc/machine-id"
        ))?;
        Ok(vm)
    }

    /// A guest that boots from an image.
    ///
    /// # Errors
    /// When it does not answer; with what its console said.
    pub fn boot(kit: &Kit, image: &Disk, options: &Options) -> Result<Self> {
        let place = Place::new()?;
        let disk = place.path().join("disk");
        let folder = image.file.parent().context("an image without a folder")?;
        let create = "qemu-img create -q -f qcow2 -b \"$1\" -F raw \"$2\"";
        script(create, &[&image.file, &disk], &[folder, place.path()], PATIENCE)
            .context("make a layer over the image")?;
        let seen = vec![folder.to_owned()];
        Self::start(kit, place, disk, &image.user, seen, options, From::PowerOn)
    }

    /// The kit's own first guest, which works on the file itself.
    pub(super) fn power_on_in_place(kit: &Kit, disk: &Path, options: &Options) -> Result<Self> {
        Self::start(kit, Place::new()?, disk.to_owned(), "root", Vec::new(), options, From::PowerOn)
    }

    fn start(
        kit: &Kit,
        place: Place,
        disk: PathBuf,
        user: &str,
        seen: Vec<PathBuf>,
        options: &Options,
        from: From,
    ) -> Result<Self> {
        let plug = match &options.lab {
            Some((lab, address)) => Some(Plug::new(lab, *address, place.number())?),
            None => None,
        };
        let port = qemu::free_port()?;
        let address = Address {
            lab: plug.as_ref().map(|p| p.lab().clone()),
            port,
            user: user.to_owned(),
            key: kit.key(),
            dir: place.path().to_owned(),
        };
        let machine = Machine {
            kit: kit.dir().to_owned(),
            dir: place.path().to_owned(),
            disk,
            memory: MEMORY,
            port,
            tap: plug.as_ref().map(|p| p.name().to_owned()),
            is_ec2: options.is_ec2,
        };
        let (qemu, monitor) = launch(&machine, plug.as_ref(), from, &seen)?;
        let patience = options.patience;
        let mut vm =
            Self { shell: None, monitor, qemu, machine, address, patience, seen, plug, place };
        vm.connect()?;
        Ok(vm)
    }

    /// Runs a shell command as root to its end, whatever that is.
    ///
    /// # Errors
    /// When it takes longer than three minutes, or the guest does not answer.
    pub fn run(&self, command: &str) -> Result<Output> {
        self.run_within(command, PATIENCE)
    }

    /// The same with another bound.
    ///
    /// # Errors
    /// As [`Vm::run`].
    pub fn run_within(&self, command: &str, patience: Duration) -> Result<Output> {
        let shell = self.shell.as_ref().context("the guest is off")?;
        shell.run(command, None, patience)
    }

    /// Runs a shell command as root to a good end and returns what it printed, without white space
    /// at the ends.
    ///
    /// # Errors
    /// When it fails; with all that it said.
    pub fn ok(&self, command: &str) -> Result<String> {
        let done = self.run(command)?;
        if !done.success() {
            bail!("in the guest, `{command}` ended with {}: {}", done.status, done.all().trim());
        }
        Ok(done.stdout.trim().to_owned())
    }

    /// Looks again and again until a command succeeds, and returns what it printed.
    ///
    /// # Errors
    /// When it does not within `patience`; with what it said last.
    pub fn wait(&self, command: &str, patience: Duration) -> Result<String> {
        let mut last = None;
        let found = wait::try_for(patience, || self.ok(command).map_err(|e| last = Some(e)).ok());
        match (found, last) {
            (Some(text), _) => Ok(text),
            (None, Some(e)) => Err(e).context(format!("waited {patience:?}")),
            (None, None) => bail!("waited {patience:?} for `{command}`"),
        }
    }

    /// Copies a file of this machine into the guest.
    ///
    /// # Errors
    /// When it cannot be read here or written there.
    pub fn copy_in(&self, from: &Path, to: &str) -> Result<()> {
        let shell = self.shell.as_ref().context("the guest is off")?;
        let done = shell.run(&format!("cat > {to}"), Some(shell::open(from)?), PATIENCE)?;
        if !done.success() {
            bail!("write {to} in the guest: {}", done.all().trim());
        }
        Ok(())
    }

    /// Writes a text file in the guest.
    ///
    /// # Errors
    /// As [`Vm::copy_in`].
    pub fn write(&self, path: &str, text: &str) -> Result<()> {
        let file = self.place.path().join("text");
        fs::write(&file, text).context("write a file for the guest")?;
        self.copy_in(&file, path)
    }

    /// `systemctl reboot`, and back again: the harness is the boot loader.
    ///
    /// # Errors
    /// When the guest does not go down or does not come back.
    pub fn reboot(&mut self) -> Result<()> {
        // The connection may end before the command does.
        self.run("systemctl reboot")?;
        self.went_down()?;
        self.power_on()
    }

    /// Waits until the guest has shut itself down or asked for a reboot, as a patch run does.
    ///
    /// # Errors
    /// When it goes on.
    pub fn went_down(&mut self) -> Result<()> {
        let qemu = &mut self.qemu;
        let ended = wait::try_for(DOWN_WITHIN, || qemu.try_wait().transpose());
        ended.with_context(|| format!("the guest did not go down: {}", self.machine.log()))??;
        self.shell = None;
        Ok(())
    }

    /// Cuts the power: what the guest did not sync is lost.
    ///
    /// # Errors
    /// When QEMU cannot be killed.
    pub fn power_cut(&mut self) -> Result<()> {
        self.shell = None;
        self.qemu.kill().context("kill QEMU")?;
        self.qemu.wait().context("wait for QEMU")?;
        Ok(())
    }

    /// Boots a guest that is off.
    ///
    /// # Errors
    /// When it does not answer; with what its console said.
    pub fn power_on(&mut self) -> Result<()> {
        let (qemu, monitor) = launch(&self.machine, self.plug.as_ref(), From::PowerOn, &self.seen)?;
        self.qemu = qemu;
        self.monitor = monitor;
        self.connect()
    }

    /// Processor time that the guest took so far, in seconds.
    ///
    /// # Errors
    /// When it is off.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let outer = self.qemu.id();
        let children = fs::read_to_string(format!("/proc/{outer}/task/{outer}/children"));
        let children = children.context("find QEMU's process")?;
        let stat = fs::read_to_string(format!("/proc/{}/stat", children.trim()));
        let stat = stat.context("read QEMU's times")?;
        let fields = stat.rsplit_once(") ").map(|(_, rest)| rest).unwrap_or_default();
        let ticks = fields.split(' ').skip(11).take(2).filter_map(|t| t.parse::<f64>().ok());
        Ok(ticks.sum::<f64>() / 100.0)
    }

    /// Keeps the running guest in its disk, and stops it.
    pub(super) fn save(&mut self) -> Result<()> {
        self.shell = None;
        self.monitor.human(&format!("savevm {}", qemu::SNAPSHOT))?;
        self.monitor.execute("quit", &serde_json::json!({}))?;
        self.went_down()
    }

    fn connect(&mut self) -> Result<()> {
        self.place.works(self.qemu.id())?;
        let (qemu, machine) = (&mut self.qemu, &self.machine);
        let shell = Shell::connect(&self.address, self.patience, || {
            match qemu.try_wait().context("wait for QEMU")? {
                Some(status) => bail!("QEMU ended with {status}: {}", machine.log()),
                None => Ok(()),
            }
        });
        self.shell = Some(shell.with_context(|| self.machine.log())?);
        match &self.plug {
            Some(plug) => self.ok(&plug.join()).map(drop),
            None => Ok(()),
        }
    }

    fn set_clock(&self) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).context("read the clock")?;
        self.ok(&format!("date -s @{:.3}", now.as_secs_f64())).map(drop)
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        self.shell = None;
        // It may be off; then there is nothing to kill.
        drop(self.qemu.kill());
        drop(self.qemu.wait());
    }
}

/// In the lab's network, if the guest is in one: there is its tap device.
fn launch(
    machine: &Machine,
    plug: Option<&Plug>,
    from: From,
    seen: &[PathBuf],
) -> Result<(Child, Monitor)> {
    let seen: Vec<&Path> = seen.iter().map(PathBuf::as_path).collect();
    match plug {
        None => machine.start(from, &seen),
        Some(plug) => plug.lab().inside(|| machine.start(from, &seen)),
    }
}
