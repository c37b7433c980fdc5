//! One guest, from its restore (or its power button) to its end.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use super::{
    bounded,
    kit::{Kit, MEMORY},
    lab::Plug,
    monitor::Monitor,
    qemu::{self, From, Machine},
    shell::{Address, Shell},
    sweep,
    toolbox::Toolbox,
};
pub use super::lab::Lab;

/// What a command in a guest may take, unless said otherwise.
const PATIENCE: Duration = Duration::from_secs(180);

/// How long an orderly shutdown may take.
const DOWN_WITHIN: Duration = Duration::from_secs(240);

/// How a guest is made.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its host name, when restored. An image's own name is left as it is.
    pub name: String,
    /// Its place in the laboratory's network, if it has one.
    pub lab: Option<Lab>,
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
    tools: Toolbox,
    patience: Duration,
    lab: Option<Lab>,
    // In this order: the device goes after QEMU, the folder last.
    _plug: Option<Plug>,
    dir: TempDir,
}

impl Vm {
    /// A guest as the kit's snapshot has it: booted, idle, with the right time.
    ///
    /// # Errors
    /// When it does not answer; with what its console said.
    pub fn restore(kit: &Kit, options: &Options) -> Result<Self> {
        let dir = folder()?;
        let disk = dir.path().join("disk");
        fs::copy(kit.snapshot_file(), &disk).context("copy the snapshot")?;
        let vm = Self::start(kit, dir, disk, "root", options, From::Snapshot)?;
        vm.set_clock()?;
        let name = &options.name;
        vm.ok(&format!(
            "hostname {name}; echo {name} > /etc/hostname; systemd-id128 new > /etc/machine-id"
        ))?;
        vm.join_lab()?;
        Ok(vm)
    }

    /// A guest that boots from an image.
    ///
    /// # Errors
    /// When it does not answer; with what its console said.
    pub fn boot(kit: &Kit, image: &Disk, options: &Options) -> Result<Self> {
        let dir = folder()?;
        let disk = dir.path().join("disk");
        let folder = image.file.parent().context("an image without a folder")?;
        let create = "qemu-img create -q -f qcow2 -b \"$1\" -F raw \"$2\"";
        let tools = kit.tools().clone().share(folder).share(dir.path());
        tools.script(create, [image.file.as_path(), &disk], PATIENCE).context("make a layer")?;
        let vm = Self::start(
            &kit.clone().sharing(folder),
            dir,
            disk,
            &image.user,
            options,
            From::PowerOn,
        )?;
        vm.join_lab()?;
        Ok(vm)
    }

    /// The kit's own first guest, which works on the file itself.
    pub(super) fn power_on_in_place(kit: &Kit, disk: &Path, options: &Options) -> Result<Self> {
        Self::start(kit, folder()?, disk.to_owned(), "root", options, From::PowerOn)
    }

    fn start(
        kit: &Kit,
        dir: TempDir,
        disk: PathBuf,
        user: &str,
        options: &Options,
        from: From,
    ) -> Result<Self> {
        let port = qemu::free_port()?;
        let plug = options.lab.as_ref().map(|lab| Plug::new(lab, next())).transpose()?;
        let address = Address {
            netns: options.lab.as_ref().map(|lab| lab.netns.clone()),
            port,
            user: user.to_owned(),
            key: kit.key(),
        };
        let machine = Machine {
            kit: kit.dir().to_owned(),
            dir: dir.path().to_owned(),
            disk,
            memory: MEMORY,
            port,
            tap: plug.as_ref().map(Plug::tap),
            is_ec2: options.is_ec2,
        };
        let tools = kit.tools().clone().share(dir.path());
        let (qemu, monitor) = machine.start(&tools, from)?;
        let lab = options.lab.clone();
        let patience = options.patience;
        let mut vm = Self {
            shell: None,
            monitor,
            qemu,
            machine,
            address,
            tools,
            patience,
            lab,
            _plug: plug,
            dir,
        };
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
        shell.run(command, Stdio::null(), patience)
    }

    /// Runs a shell command as root to a good end and returns what it printed, without white space
    /// at the ends.
    ///
    /// # Errors
    /// When it fails; with all that it said.
    pub fn ok(&self, command: &str) -> Result<String> {
        let done = self.run(command)?;
        let text = String::from_utf8_lossy(&done.stdout).trim().to_owned();
        if !done.status.success() {
            let errors = String::from_utf8_lossy(&done.stderr);
            bail!("in the guest, `{command}` ended with {}: {text} {}", done.status, errors.trim());
        }
        Ok(text)
    }

    /// Looks again and again until a command succeeds, and returns what it printed.
    ///
    /// # Errors
    /// When it does not within `patience`; with what it said last.
    pub fn wait(&self, command: &str, patience: Duration) -> Result<String> {
        let mut last = None;
        let found = bounded::wait(patience, || {
            match self.ok(command) {
                Ok(text) => return Ok(Some(text)),
                Err(e) => last = Some(e),
            }
            Ok(None)
        })?;
        match (found, last) {
            (Some(text), _) => Ok(text),
            (None, Some(e)) => Err(e).context(format!("waited {} s", patience.as_secs())),
            (None, None) => bail!("waited {} s for `{command}`", patience.as_secs()),
        }
    }

    /// Copies a file of this machine into the guest.
    ///
    /// # Errors
    /// When it cannot be read here or written there.
    pub fn copy_in(&self, from: &Path, to: &str) -> Result<()> {
        let file = File::open(from).with_context(|| format!("open {}", from.display()))?;
        let shell = self.shell.as_ref().context("the guest is off")?;
        let done = shell.run(&format!("cat > {to}"), file.into(), PATIENCE)?;
        if !done.status.success() {
            bail!("write {to} in the guest: {}", String::from_utf8_lossy(&done.stderr).trim());
        }
        Ok(())
    }

    /// Writes a text file in the guest.
    ///
    /// # Errors
    /// As [`Vm::copy_in`].
    #[expect(clippy::disallowed_methods, reason = "a file for the next line")]
    pub fn write(&self, path: &str, text: &str) -> Result<()> {
        let file = self.dir.path().join("text");
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
        let ended = bounded::wait(DOWN_WITHIN, || qemu.try_wait().context("wait for QEMU"))?;
        if ended.is_none() {
            bail!("the guest did not go down: {}", self.machine.log());
        }
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
        let (qemu, monitor) = self.machine.start(&self.tools, From::PowerOn)?;
        self.qemu = qemu;
        self.monitor = monitor;
        self.connect()?;
        self.join_lab()
    }

    /// Processor time that the guest took so far, in seconds.
    ///
    /// # Errors
    /// When it is off.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.qemu.id()))
            .context("read QEMU's times")?;
        let fields = stat.rsplit_once(") ").map(|(_, rest)| rest).unwrap_or_default();
        let ticks: f64 = fields.split(' ').skip(11).take(2).filter_map(|t| t.parse::<f64>().ok()).sum();
        Ok(ticks / 100.0)
    }

    /// Keeps the running guest in its disk, and stops it.
    pub(super) fn save(&mut self) -> Result<()> {
        self.shell = None;
        self.monitor.human(&format!("savevm {}", qemu::SNAPSHOT))?;
        self.monitor.execute("quit", &serde_json::json!({}))?;
        self.went_down()
    }

    fn connect(&mut self) -> Result<()> {
        write_pid(self.dir.path(), self.qemu.id())?;
        let (qemu, machine) = (&mut self.qemu, &self.machine);
        let socket = self.dir.path().join("ssh");
        let shell = Shell::connect(&self.address, &socket, self.patience, || {
            match qemu.try_wait().context("wait for QEMU")? {
                Some(status) => bail!("QEMU ended with {status}: {}", machine.log()),
                None => Ok(()),
            }
        });
        self.shell = Some(shell.with_context(|| self.machine.log())?);
        Ok(())
    }

    #[expect(clippy::disallowed_methods, reason = "the guest gets the time of this machine")]
    fn set_clock(&self) -> Result<()> {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .context("read the clock")?;
        self.ok(&format!("date -s @{:.3}", now.as_secs_f64())).map(drop)
    }

    fn join_lab(&self) -> Result<()> {
        match &self.lab {
            Some(lab) => self.ok(&lab.join()).map(drop),
            None => Ok(()),
        }
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

fn next() -> u32 {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    COUNT.fetch_add(1, Ordering::Relaxed)
}

/// A folder for one guest. Sockets are in it, so its path is short.
fn folder() -> Result<TempDir> {
    let place = Path::new("/var/tmp");
    sweep::dead_owners(place);
    tempfile::Builder::new()
        .prefix(&format!("{}{}-", sweep::PREFIX, std::process::id()))
        .tempdir_in(place)
        .context("make a guest's folder")
}

#[expect(clippy::disallowed_methods, reason = "the folder is the guest's own")]
fn write_pid(dir: &Path, pid: u32) -> Result<()> {
    fs::write(dir.join("pid"), pid.to_string()).context("write QEMU's pid")
}
