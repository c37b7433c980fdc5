//! The little of the host that reading these files needs, so that a test can be a host of its own.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::{self, Read as _},
    path::{Component, Path, PathBuf},
};

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

/// A larger file is no configuration.
const MAX_FILE_BYTES: u64 = 4 << 20;
/// More entries of a folder than this are no configuration.
const MAX_ENTRIES: usize = 10_000;
/// As many links as the kernel follows on one path.
const MAX_LINKS: usize = 40;

/// Files and users, as seen from where the configuration is to run.
pub trait Host {
    /// The content of a file.
    ///
    /// # Errors
    /// When it cannot be read, or is too large to be a configuration.
    fn read(&self, file: &Path) -> io::Result<Vec<u8>>;
    /// The names in a folder; none if there is no such folder.
    fn list(&self, folder: &Path) -> Vec<String>;
    /// What is at a path.
    fn at(&self, path: &Path) -> Option<Sort>;
    /// The home of a user, by name or number.
    fn home(&self, user: &str) -> Option<PathBuf>;
    /// The path of a file without links in it; itself where there is none.
    fn real(&self, file: &Path) -> PathBuf;
}

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sort {
    /// A folder.
    Folder,
    /// Anything else.
    File,
}

/// What Supervisor would find in its environment.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// Variables.
    pub environment: BTreeMap<String, String>,
    /// The host's name.
    pub node: String,
    /// Where relative paths begin.
    pub cwd: PathBuf,
}

impl World {
    /// That of this process.
    #[must_use]
    pub fn of_this_process() -> Self {
        let text = |(key, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((key.into_string().ok()?, value.into_string().ok()?))
        };
        Self {
            environment: std::env::vars_os().filter_map(text).collect(),
            node: nix::unistd::gethostname()
                .ok()
                .and_then(|n| n.into_string().ok())
                .unwrap_or_default(),
            cwd: std::env::current_dir().unwrap_or_else(|_| "/".into()),
        }
    }
}

/// This host, or a folder that holds the files of another one.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    root: Option<PathBuf>,
}

impl Disk {
    /// Paths are those below `root`, if one is given.
    #[must_use]
    pub fn below(root: Option<PathBuf>) -> Self {
        Self { root }
    }

    /// What is around the files: this process, or for a folder the host whose files it holds, as far as
    /// they tell. The variables are this process's either way.
    #[must_use]
    pub fn world(&self) -> World {
        let mut world = World::of_this_process();
        if self.root.is_some() {
            world.environment.remove("HOME");
            if let Some(home) = self.home("root") {
                world.environment.insert("HOME".to_owned(), home.display().to_string());
            }
            let name = self.read(Path::new("/etc/hostname")).unwrap_or_default();
            let name = String::from_utf8_lossy(&name);
            let name = name.lines().map(str::trim).find(|l| !l.is_empty() && !l.starts_with('#'));
            world.node = name.map_or(world.node, str::to_owned);
        }
        world
    }

    /// Where a path of the host is on this one. Below a root every link in it is followed as that host
    /// would: neither an absolute one nor `..` leads out of it.
    fn here(&self, path: &Path) -> io::Result<PathBuf> {
        let Some(root) = &self.root else { return Ok(path.to_owned()) };
        let parts =
            |path: &Path| path.components().rev().map(|c| c.as_os_str().to_owned()).collect();
        let mut left: Vec<OsString> = parts(path);
        let mut inner = PathBuf::new();
        let mut links = 0;
        while let Some(part) = left.pop() {
            match Path::new(&part).components().next() {
                Some(Component::ParentDir) => _ = inner.pop(),
                Some(Component::RootDir) => inner.clear(),
                Some(Component::Normal(name)) => {
                    inner.push(name);
                    let Ok(target) = fs::read_link(root.join(&inner)) else { continue };
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Errno::ELOOP.into());
                    }
                    inner.pop();
                    left.append(&mut parts(&target));
                }
                Some(Component::Prefix(_) | Component::CurDir) | None => {}
            }
        }
        Ok(root.join(inner))
    }

    /// The fields of the line of a user in `passwd`.
    fn passwd(&self, user: &str) -> Option<Vec<String>> {
        let text = self.read(Path::new("/etc/passwd")).ok()?;
        let text = String::from_utf8_lossy(&text);
        let fields = |line: &str| line.split(':').map(str::to_owned).collect::<Vec<_>>();
        let is_meant = |f: &Vec<String>| {
            f.len() >= 7
                && (f.first().is_some_and(|n| n == user) || f.get(2).is_some_and(|n| n == user))
        };
        text.lines().map(fields).find(is_meant)
    }
}

impl Host for Disk {
    fn read(&self, file: &Path) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let read =
            File::open(self.here(file)?)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
        if read as u64 > MAX_FILE_BYTES {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 4 MiB"));
        }
        Ok(bytes)
    }

    fn list(&self, folder: &Path) -> Vec<String> {
        let Ok(entries) = self.here(folder).and_then(fs::read_dir) else { return Vec::new() };
        let name = |e: io::Result<fs::DirEntry>| e.ok()?.file_name().into_string().ok();
        entries.take(MAX_ENTRIES).filter_map(name).collect()
    }

    fn at(&self, path: &Path) -> Option<Sort> {
        match self.here(path).and_then(fs::metadata) {
            Ok(m) if m.is_dir() => Some(Sort::Folder),
            Ok(_) => Some(Sort::File),
            Err(_) => {
                // A link to nowhere is there all the same.
                let (folder, name) = path.parent().zip(path.file_name())?;
                let link = self.here(folder).ok()?.join(name);
                fs::symlink_metadata(link).ok().map(|_| Sort::File)
            }
        }
    }

    fn home(&self, user: &str) -> Option<PathBuf> {
        if let Some(fields) = self.passwd(user) {
            return fields.get(5).map(PathBuf::from);
        }
        // Users of a directory service are in no file.
        let found = match user.parse::<u32>() {
            _ if self.root.is_some() => return None,
            Ok(uid) => nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid)),
            Err(_) => nix::unistd::User::from_name(user),
        };
        found.ok().flatten().map(|u| u.dir)
    }

    fn real(&self, file: &Path) -> PathBuf {
        self.here(file).and_then(fs::canonicalize).unwrap_or_else(|_| file.to_owned())
    }
}

/// What a host answered beside the text of its files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Answers {
    /// The home of each user that was asked for.
    homes: BTreeMap<String, Option<PathBuf>>,
    /// What was at the paths that were asked for, where anything was.
    at: BTreeMap<PathBuf, Sort>,
    /// The paths without links of those that had some.
    real: BTreeMap<PathBuf, PathBuf>,
}

/// A host whose files and answers are remembered as they are read.
#[derive(Debug, Default)]
pub struct Recorder<H> {
    host: H,
    read: RefCell<BTreeMap<PathBuf, String>>,
    answers: RefCell<Answers>,
}

impl<H> Recorder<H> {
    /// This host, with nothing read yet.
    #[must_use]
    pub fn new(host: H) -> Self {
        Self { host, read: RefCell::default(), answers: RefCell::default() }
    }

    /// Name and text of every configuration file that was read, and the answers.
    #[must_use]
    pub fn recorded(self) -> (Vec<(PathBuf, String)>, Answers) {
        (self.read.into_inner().into_iter().collect(), self.answers.into_inner())
    }
}

impl<H: Host> Host for Recorder<H> {
    fn read(&self, file: &Path) -> io::Result<Vec<u8>> {
        let bytes = self.host.read(file)?;
        if let Ok(text) = std::str::from_utf8(&bytes) {
            self.read.borrow_mut().insert(file.to_owned(), text.to_owned());
        }
        Ok(bytes)
    }

    fn list(&self, folder: &Path) -> Vec<String> {
        self.host.list(folder)
    }

    fn at(&self, path: &Path) -> Option<Sort> {
        let sort = self.host.at(path)?;
        self.answers.borrow_mut().at.insert(path.to_owned(), sort);
        Some(sort)
    }

    fn home(&self, user: &str) -> Option<PathBuf> {
        let home = self.host.home(user);
        self.answers.borrow_mut().homes.insert(user.to_owned(), home.clone());
        home
    }

    fn real(&self, file: &Path) -> PathBuf {
        let real = self.host.real(file);
        if real != file {
            self.answers.borrow_mut().real.insert(file.to_owned(), real.clone());
        }
        real
    }
}

/// Files that were read before, and nothing else: the last configuration that was good, whatever the
/// disk holds now.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    files: BTreeMap<PathBuf, Vec<u8>>,
    answers: Answers,
}

impl Kept {
    /// These files.
    #[must_use]
    pub fn new(files: impl IntoIterator<Item = (PathBuf, Vec<u8>)>) -> Self {
        Self { files: files.into_iter().collect(), answers: Answers::default() }
    }

    /// With what the host answered then.
    #[must_use]
    pub fn with(self, answers: Answers) -> Self {
        Self { answers, ..self }
    }

    /// The files that are below a folder, at whatever depth.
    fn below<'a>(&'a self, folder: &'a Path) -> impl Iterator<Item = &'a OsStr> {
        self.files.keys().filter_map(move |f| {
            match f.strip_prefix(folder).ok()?.components().next() {
                Some(Component::Normal(name)) => Some(name),
                _ => None,
            }
        })
    }
}

impl Host for Kept {
    fn read(&self, file: &Path) -> io::Result<Vec<u8>> {
        self.files.get(file).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn list(&self, folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            self.below(folder).map(|n| n.to_string_lossy().into_owned()).collect();
        names.dedup();
        names
    }

    fn at(&self, path: &Path) -> Option<Sort> {
        if self.files.contains_key(path) {
            return Some(Sort::File);
        }
        let was = self.answers.at.get(path).copied();
        was.or_else(|| self.below(path).next().map(|_| Sort::Folder))
    }

    /// What it was, lest a log moves; of whom nobody asked then, what it is now.
    fn home(&self, user: &str) -> Option<PathBuf> {
        match self.answers.homes.get(user) {
            Some(home) => home.clone(),
            None => Disk::default().home(user),
        }
    }

    fn real(&self, file: &Path) -> PathBuf {
        self.answers.real.get(file).map_or_else(|| file.to_owned(), Clone::clone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_kept_as_it_was_and_may_have_been_none() {
        let recorder = Recorder::new(Disk::default());
        let root = recorder.home("root");
        assert!(root.is_some() && root != Some("/".into()), "{root:?}");
        assert_eq!(recorder.home("nobody-of-this-name"), None);
        let (_, mut answers) = recorder.recorded();
        assert_eq!(Kept::default().with(answers.clone()).home("root"), root);
        assert_eq!(Kept::default().with(answers.clone()).home("nobody-of-this-name"), None);
        answers.homes.insert("root".to_owned(), Some("/elsewhere".into()));
        assert_eq!(Kept::default().with(answers).home("root"), Some("/elsewhere".into()));
        // A configuration that was kept by an agent that kept no answers.
        assert_eq!(Kept::default().home("root"), root);
    }
    #[test]
    fn links_below_a_root_lead_nowhere_out_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("img");
        for (file, text) in [
            ("etc/passwd", "root:x:0:0::/root-there:/bin/sh\napp:x:7:7::/srv/app:/bin/sh\n"),
            ("etc/hostname", "# who\nthere\n"),
            ("opt/app.conf", "inner"),
            ("etc/d/keep", ""),
        ] {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            crate::sys::files::write_atomic(&path, text.as_bytes(), 0o644).unwrap();
        }
        crate::sys::files::write_atomic(&dir.path().join("secret"), b"outer", 0o644).unwrap();
        for (link, target) in [
            ("etc/d/app.conf", "/opt/app.conf"),
            ("etc/d/up.conf", "../../opt/app.conf"),
            ("etc/d/passwd.conf", "/etc/passwd"),
            ("etc/d/out.conf", "../../../secret"),
            ("etc/d/loop.conf", "loop.conf"),
            ("etc/d/gone.conf", "/no/such"),
            ("etc/all", "/etc/d"),
        ] {
            std::os::unix::fs::symlink(target, root.join(link)).unwrap();
        }
        let disk = Disk::below(Some(root));
        let read = |file: &str| disk.read(Path::new(file)).map(|b| String::from_utf8(b).unwrap());
        for file in [
            "/etc/d/app.conf",
            "/etc/d/up.conf",
            "/etc/all/app.conf",
            "/../etc/d/../../etc/all/up.conf",
        ] {
            assert_eq!(read(file).unwrap(), "inner", "{file}");
            assert_eq!(disk.real(Path::new(file)), disk.real(Path::new("/opt/app.conf")));
        }
        assert!(read("/etc/d/passwd.conf").unwrap().contains("root-there"));
        assert!(read("/etc/d/out.conf").is_err());
        assert_eq!(read("/etc/d/loop.conf").unwrap_err().raw_os_error(), Some(Errno::ELOOP as i32));
        assert_eq!(disk.at(Path::new("/etc/all")), Some(Sort::Folder));
        assert_eq!(disk.at(Path::new("/etc/d/gone.conf")), Some(Sort::File));
        assert_eq!(disk.at(Path::new("/etc/none")), None);
        assert_eq!(disk.list(Path::new("/etc/all")).len(), 7);
        let world = disk.world();
        assert_eq!(
            (world.node.as_str(), world.environment["HOME"].as_str()),
            ("there", "/root-there")
        );
        assert_eq!(disk.home("app"), Some("/srv/app".into()));
    }
}
