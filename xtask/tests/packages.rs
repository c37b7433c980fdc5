//! The packages themselves, without a host: what `cargo xtask package` left in the target directory.
//! Absent packages are no failure: making them takes minutes, and `cargo xtask package` does that.

#![expect(clippy::unwrap_used, reason = "what helps a test may fail as a test does")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// Amazon Linux 2023's.
const OLDEST_GLIBC: (u32, u32) = (2, 34);

/// The directory with the packages, or nothing, told.
fn packages() -> Option<PathBuf> {
    let dir = match std::env::var_os("PALISADE_PACKAGES") {
        Some(given) => PathBuf::from(given),
        None => Path::new(env!("CARGO_TARGET_TMPDIR")).parent()?.join("packages"),
    };
    if dir.join("SHA256SUMS").is_file() {
        return Some(dir);
    }
    skip(&format!("no packages in {} (cargo xtask package)", dir.display()));
    None
}

#[expect(clippy::print_stdout, reason = "the count of skipped tests reads it")]
fn skip(why: &str) {
    println!("skipped: {why}");
}

#[expect(clippy::print_stdout, reason = "a figure for whoever reads the test's output")]
fn tell(text: &str) {
    println!("{text}");
}

#[expect(clippy::disallowed_methods, reason = "the tools of Debian are what looks into packages")]
fn command(program: &str) -> Command {
    Command::new(program)
}

fn said(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{command:?} ended with {status}: {stderr}");
    String::from_utf8(stdout).unwrap()
}

fn with_end(dir: &Path, end: &str) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.to_string_lossy().ends_with(end))
        .collect();
    found.sort();
    found
}

/// A .deb, opened below a directory that goes away with it.
struct Opened {
    tree: PathBuf,
    control: BTreeMap<String, String>,
}

impl Opened {
    fn new(deb: &Path) -> Self {
        let name = deb.file_stem().unwrap().to_string_lossy();
        let thread = std::thread::current().name().unwrap_or("test").replace("::", "-");
        let tree = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{thread}"));
        if tree.exists() {
            fs::remove_dir_all(&tree).unwrap();
        }
        said(command("dpkg-deb").arg("-R").arg(deb).arg(&tree));
        let control = fs::read_to_string(tree.join("DEBIAN/control")).unwrap();
        let fields = control.lines().filter_map(|l| l.split_once(": "));
        let control = fields.map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        Self { tree, control }
    }

    fn files(&self) -> Vec<PathBuf> {
        let list = said(command("find").arg(&self.tree).args(["-type", "f"]));
        list.lines().map(PathBuf::from).collect()
    }

    fn upstream_version(&self) -> &str {
        self.control["Version"].strip_suffix("-1").unwrap()
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.tree));
    }
}

fn is_symbols(deb: &Path) -> bool {
    deb.to_string_lossy().contains("-dbgsym")
}

#[test]
fn the_checksums_hold_for_every_package() {
    let Some(dir) = packages() else { return };
    said(command("sha256sum").args(["--check", "--strict", "SHA256SUMS"]).current_dir(&dir));
    let sums = fs::read_to_string(dir.join("SHA256SUMS")).unwrap();
    for package in with_end(&dir, ".deb").iter().chain(&with_end(&dir, ".rpm")) {
        let name = package.file_name().unwrap().to_string_lossy();
        assert!(sums.contains(&*name), "{name} is not summed up");
    }
}

/// The smallest one only, as compressing takes its time; `cargo xtask package --twice` does them all.
#[test]
fn packed_again_a_deb_is_the_same_bytes() {
    let Some(dir) = packages() else { return };
    let debs = with_end(&dir, ".deb");
    if let Some(deb) = debs.iter().min_by_key(|deb| fs::metadata(deb).unwrap().len()) {
        let opened = Opened::new(deb);
        let date = said(command("stat").args(["-c", "%Y"]).arg(opened.tree.join("usr")));
        let again = opened.tree.with_extension("again.deb");
        let bytes = fs::read(deb).unwrap();
        let quick = bytes.windows(12).any(|w| w == b"data.tar.gz/" || w == b"data.tar.gz ");
        let compression: &[&str] = if quick { &["-Zgzip", "-z1"] } else { &["-Zxz"] };
        said(
            command("dpkg-deb")
                .arg("--root-owner-group")
                .args(compression)
                .arg("-b")
                .arg(&opened.tree)
                .arg(&again)
                .env("SOURCE_DATE_EPOCH", date.trim())
                .env("DPKG_DEB_THREADS_MAX", "1"),
        );
        let same = bytes == fs::read(&again).unwrap();
        fs::remove_file(&again).unwrap();
        assert!(same, "{} depends on more than its content", deb.display());
    }
}

#[test]
fn every_file_has_a_sum_that_dpkg_can_verify() {
    let Some(dir) = packages() else { return };
    for deb in with_end(&dir, ".deb") {
        let opened = Opened::new(&deb);
        said(command("md5sum").args(["--check", "DEBIAN/md5sums"]).current_dir(&opened.tree));
        let sums = fs::read_to_string(opened.tree.join("DEBIAN/md5sums")).unwrap();
        let files = opened.files();
        let payload = files.iter().filter(|f| !f.starts_with(opened.tree.join("DEBIAN"))).count();
        assert_eq!(sums.lines().count(), payload, "{}", deb.display());
    }
}

#[test]
fn nothing_below_etc_is_packaged() {
    let Some(dir) = packages() else { return };
    for deb in with_end(&dir, ".deb") {
        let opened = Opened::new(&deb);
        assert!(!opened.tree.join("etc").exists(), "{}", deb.display());
    }
}

#[test]
fn the_binaries_run_on_the_oldest_glibc_we_support() {
    let Some(dir) = packages() else { return };
    let mut looked_at = 0;
    for deb in with_end(&dir, ".deb").iter().filter(|d| !is_symbols(d)) {
        let opened = Opened::new(deb);
        let binary = opened.tree.join("usr/bin").join(&opened.control["Package"]);
        let symbols = said(command("objdump").arg("-T").arg(&binary));
        let newest = symbols
            .split("GLIBC_")
            .skip(1)
            .filter_map(|rest| {
                let number = rest.split([')', ' ', '\n']).next()?;
                let mut parts = number.split('.').map(|p| p.parse::<u32>().ok());
                Some((parts.next()??, parts.next()??))
            })
            .max()
            .unwrap();
        assert!(newest <= OLDEST_GLIBC, "{} needs glibc {newest:?}", binary.display());
        looked_at += 1;
    }
    assert!(looked_at > 0);
}

#[test]
fn no_file_names_the_machine_that_built_it() {
    let Some(dir) = packages() else { return };
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf();
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let private = [workspace, dir.clone(), home.join(".cargo"), home.join(".rustup")];
    for deb in with_end(&dir, ".deb") {
        let opened = Opened::new(&deb);
        for file in opened.files() {
            let bytes = fs::read(&file).unwrap();
            for path in &private {
                let path = path.as_os_str().as_encoded_bytes();
                let found = bytes.windows(path.len()).any(|w| w == path);
                assert!(!found, "{} names {}", file.display(), String::from_utf8_lossy(path));
            }
        }
    }
}

#[test]
fn binary_man_page_completion_and_package_agree() {
    let Some(dir) = packages() else { return };
    for deb in with_end(&dir, ".deb").iter().filter(|d| !is_symbols(d)) {
        let opened = Opened::new(deb);
        let (name, version) = (opened.control["Package"].as_str(), opened.upstream_version());
        let binary = opened.tree.join("usr/bin").join(name);
        assert_eq!(
            said(command(&binary.to_string_lossy()).arg("--version")).trim(),
            format!("{name} {version}")
        );
        let share = opened.tree.join("usr/share");
        let page = share.join("man/man1").join(format!("{name}.1.gz"));
        let page = said(command("gzip").arg("-dc").arg(page));
        assert!(page.contains(&format!("{name} {version}")), "{page}");
        let news = share.join("doc").join(name).join("changelog.Debian.gz");
        let news = said(command("gzip").arg("-dc").arg(news));
        assert!(news.starts_with(&format!("{name} ({version}-1) ")), "{news}");
        let bash = share.join("bash-completion/completions").join(name);
        said(command("bash").arg("-n").arg(&bash));
        assert!(fs::read_to_string(bash).unwrap().contains(&format!("complete -F _{name}")));
        let size = fs::metadata(deb).unwrap().len() / 1024;
        let installed = &opened.control["Installed-Size"];
        tell(&format!("{name} {version}: package {size} KiB, installed {installed} KiB"));
    }
}

#[test]
fn the_packaged_agent_accepts_the_example_beside_it() {
    let Some(dir) = packages() else { return };
    for deb in with_end(&dir, ".deb").iter().filter(|d| d.to_string_lossy().contains("/palisade_"))
    {
        let opened = Opened::new(deb);
        let binary = opened.tree.join("usr/bin/palisade");
        let example = opened.tree.join("usr/lib/palisade/palisade.yaml.example");
        let told = said(command(&binary.to_string_lossy()).arg("check").arg("-c").arg(example));
        assert!(told.contains("ok, 2 processes"), "{told}");
    }
}

#[test]
fn every_verb_of_the_binary_has_a_man_page() {
    let Some(dir) = packages() else { return };
    for deb in with_end(&dir, ".deb").iter().filter(|d| d.to_string_lossy().contains("/palisade_"))
    {
        let opened = Opened::new(deb);
        let help =
            said(command(&opened.tree.join("usr/bin/palisade").to_string_lossy()).arg("--help"));
        let verbs = help.split_once("Commands:\n").unwrap().1;
        let verbs = verbs.lines().take_while(|l| !l.is_empty()).filter_map(|l| {
            let word = l.strip_prefix("  ")?.split(' ').next()?;
            (!word.is_empty() && word != "help").then_some(word)
        });
        let mut seen = 0;
        for verb in verbs {
            let page = format!("usr/share/man/man1/palisade-{verb}.1.gz");
            assert!(opened.tree.join(&page).is_file(), "{page} is missing");
            seen += 1;
        }
        assert!(seen > 5, "{help}");
    }
}

#[test]
fn deb_and_rpm_hold_the_same_binary() {
    let Some(dir) = packages() else { return };
    if command("rpm2cpio").arg("--version").output().is_err() {
        return skip("rpm2cpio is not installed");
    }
    for rpm in with_end(&dir, ".rpm") {
        let name = rpm.file_name().unwrap().to_string_lossy().into_owned();
        let (name, rest) = name.split_once('-').unwrap();
        let version = rest.split('-').next().unwrap();
        let opened = Opened::new(&dir.join(format!("{name}_{version}-1_amd64.deb")));
        let tree = opened.tree.with_extension("rpm");
        fs::create_dir_all(&tree).unwrap();
        let script = "rpm2cpio \"$0\" | cpio -id --quiet";
        said(command("sh").args(["-ec", script]).arg(&rpm).current_dir(&tree));
        let binary = Path::new("usr/bin").join(name);
        let same =
            fs::read(tree.join(&binary)).unwrap() == fs::read(opened.tree.join(&binary)).unwrap();
        fs::remove_dir_all(&tree).unwrap();
        assert!(same, "{name}");
    }
}
