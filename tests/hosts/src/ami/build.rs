//! Packer, run in the tools tree: `validate`, and the build under QEMU.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use super::{cut::cut, facts::problems};
use crate::{
    tools,
    trees::Trees,
    vm::{Extra, Kit, Login, script},
};

/// Looking at a template.
const CHECKED_WITHIN: Duration = Duration::from_secs(120);

/// A boot and eight scripts without KVM on a busy machine.
const BUILT_WITHIN: Duration = Duration::from_secs(1_200);

/// MiB of the file system; the file is sparse.
const DISK: u32 = 2_400;

/// What Debian's image for clouds has and the base tree has not.
const PACKAGES: &str = "systemd-timesyncd";

/// In the template's folder, with the variables as arguments.
const BUILD: &str = "
cd \"$1\"
shift
export PACKER_LOG=1 PACKER_LOG_PATH=../packer.log
packer build -color=false -only=qemu.origin \"$@\" .
";

/// `fmt` reads the whole template; `validate` knows the parts that are older than marked ones.
const VALIDATE: &str = "
for file in \"$1\"/*.pkr.hcl; do
    packer fmt -check -diff \"$file\"
done
cd \"$2\"
packer validate -var agent_deb=variables.pkr.hcl -var agent_version=0 -var qemu_disk=variables.pkr.hcl .
for script in \"$1\"/scripts/*.sh \"$1\"/*.sh; do
    sh -n \"$script\"
done
";

/// A build to be made.
#[derive(Clone, Debug)]
pub struct Build<'a> {
    /// Where the template is.
    pub template: &'a Path,
    /// The agent's package.
    pub deb: &'a Path,
    /// The commit it was built from.
    pub git_sha: &'a str,
    /// Where everything goes. What was there is removed.
    pub out: &'a Path,
}

/// What a build made.
#[derive(Clone, Debug)]
pub struct Built {
    /// The sealed image, qcow2.
    pub image: PathBuf,
    /// Its list of contents.
    pub sbom: PathBuf,
    /// Packer's list of artefacts.
    pub manifest: PathBuf,
    /// What Packer and the scripts said.
    pub log: String,
}

/// Checks the template in `template`, in a folder of its own below `out`.
///
/// # Errors
/// With all that is wrong.
pub fn validate(template: &Path, out: &Path) -> Result<()> {
    let main = template.join("origin.pkr.hcl");
    let text = fs::read_to_string(&main).with_context(|| format!("read {}", main.display()))?;
    let found = problems(&text);
    if !found.is_empty() {
        bail!("{}: {}", main.display(), found.join("; "));
    }
    let copy = copy(template, out)?;
    script(VALIDATE, &[template, &copy], &[template, out], CHECKED_WITHIN)
        .context("check the template")?;
    Ok(())
}

impl Build<'_> {
    /// Builds the QEMU image for real.
    ///
    /// # Errors
    /// When a script or one of its checks fails; with what it said.
    pub fn run(&self, say: &dyn Fn(&str)) -> Result<Built> {
        let kit = Kit::build(say)?;
        if self.out.exists() {
            fs::remove_dir_all(self.out).context("remove the last build")?;
        }
        fs::create_dir_all(self.out).context("make the folder of the build")?;
        let out = fs::canonicalize(self.out).context("find the folder of the build")?;
        let template = copy(self.template, &out)?;
        let deb = out.join("palisade.deb");
        fs::copy(self.deb, &deb).with_context(|| format!("copy {}", self.deb.display()))?;

        let version = script("dpkg-deb -f \"$1\" Version", &[&deb], &[&out], CHECKED_WITHIN)
            .with_context(|| format!("read the version of {}", self.deb.display()))?;
        // Without the packaging's own revision.
        let version = version.trim().split('-').next().unwrap_or_default();

        say("ami: disk to start from");
        let disk = out.join("start");
        let extra = Extra {
            login: Login::User("admin".to_owned()),
            packages: PACKAGES.to_owned(),
            size: DISK,
        };
        kit.image(&Trees::here().base(), &extra, &disk)?;

        say("ami: packer build under QEMU (some minutes)");
        let trees = Trees::here();
        let mut command = tools::cmd_with("sh", &[trees.dir(), &out])?
            .args(["-euc", BUILD, "build"])
            .arg(&template);
        let at = |name: &str| out.join(name).display().to_string();
        let from_kit = |name: &str| kit.dir().join(name).display().to_string();
        for (name, value) in [
            ("agent_deb", deb.display().to_string()),
            ("agent_version", version.to_owned()),
            ("git_sha", self.git_sha.to_owned()),
            ("qemu_disk", disk.display().to_string()),
            ("qemu_kernel", from_kit("vmlinux")),
            ("qemu_initrd", from_kit("initrd")),
            ("qemu_key", kit.key().display().to_string()),
            ("output", out.display().to_string()),
        ] {
            command = command.args(["-var", &format!("{name}={value}")]);
        }
        let log = command
            .within(BUILT_WITHIN)
            .run()
            .with_context(|| format!("packer build; its log is {}", at("packer.log")))?;
        Ok(Built {
            image: out.join("image/origin.qcow2"),
            sbom: out.join("sbom.spdx.json"),
            manifest: out.join("manifest.json"),
            log,
        })
    }
}

/// The template without its marked parts, in `out/template`.
fn copy(template: &Path, out: &Path) -> Result<PathBuf> {
    let to = out.join("template");
    fs::create_dir_all(to.join("scripts")).context("make the template's copy")?;
    let list = |dir: &Path| {
        let entries = fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))?;
        entries.map(|e| Ok(e?.path())).collect::<Result<Vec<PathBuf>>>()
    };
    for file in list(template)? {
        let Some(name) = file.file_name() else { continue };
        // Which plugins are needed is nothing that a Packer with plugins built in understands.
        if name == "versions.pkr.hcl" || file.extension().is_none_or(|e| e != "hcl" && e != "sh") {
            continue;
        }
        if file.extension().is_some_and(|e| e == "hcl") {
            let text =
                fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
            let text = cut(&text)
                .with_context(|| format!("{}: a mark without its partner", file.display()))?;
            fs::write(to.join(name), text).context("write the template's copy")?;
        } else {
            fs::copy(&file, to.join(name)).context("copy a script")?;
        }
    }
    for file in list(&template.join("scripts"))? {
        if let Some(name) = file.file_name() {
            fs::copy(&file, to.join("scripts").join(name)).context("copy a script")?;
        }
    }
    Ok(to)
}
