//! The moment between a process and its program: everything is prepared before, and what is left to
//! the child is a row of system calls that allocate nothing and take no lock.
//!
//! ```text
//! parent  all signals blocked  clone3 --------------------- write the table, one byte: go
//! child                          `-> files, signals, group ......... wait for it, ids, chdir, execve
//! ```
//! The child's end of one socket pair is both: the word to go comes in, and the first failure goes
//! out; a successful exec closes it. If the parent dies before the word, the child sees the end of
//! the stream and ends too.

use std::{
    ffi::{CString, OsStr},
    io,
    os::{
        fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
};

use nix::sys::signal::{SigSet, SigmaskHow};

use super::{
    lean_fork::{Arena, Hidden},
    pidfd,
};
use crate::supervise::NOT_LET_GO;

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Room for the digits of a pid.
const PID_ROOM: usize = 11;

/// A step that can fail in the child. The numbers travel over the socket.
const STEPS: [&str; 10] = [
    "set up files",
    "make process group",
    "set limit of open files",
    "set groups",
    "set group",
    "set user",
    "change directory",
    "execute",
    "close files",
    "die with the agent",
];

#[derive(Clone, Copy)]
#[repr(u8)]
enum Step {
    Files,
    Group,
    OpenFiles,
    Groups,
    Gid,
    Uid,
    Directory,
    Exec,
    Close,
    DiesWith,
}

/// Everything the child needs, in the form that the system calls take.
#[derive(Debug)]
pub(super) struct Program {
    path: CString,
    argv: Vec<CString>,
    env: Vec<Vec<u8>>,
    /// Which of `env` end with room for the child's own pid.
    pid_slots: Vec<usize>,
    directory: Option<CString>,
    umask: Option<u32>,
    nofile: Option<(u64, u64)>,
    identity: Option<(u32, u32, Vec<u32>)>,
    /// The agent, if it is to die with it.
    dies_with: Option<i32>,
}

impl Program {
    /// A program at `path`.
    ///
    /// # Errors
    /// When a string has a zero byte in it.
    pub(super) fn new(path: &Path, argv: &[String]) -> io::Result<Self> {
        let argv = argv.iter().map(|a| CString::new(a.as_str())).collect::<Result<_, _>>()?;
        Ok(Self {
            path: c_path(path)?,
            argv,
            env: Vec::new(),
            pid_slots: Vec::new(),
            directory: None,
            umask: None,
            nofile: None,
            identity: None,
            dies_with: None,
        })
    }

    /// The file that will be executed.
    pub(super) fn path(&self) -> PathBuf {
        OsStr::from_bytes(self.path.as_bytes()).into()
    }

    /// Adds a variable.
    pub(super) fn env(&mut self, name: &[u8], value: &[u8]) {
        let mut entry = [name, b"=", value].concat();
        entry.retain(|b| *b != 0);
        entry.push(0);
        self.env.push(entry);
    }

    /// Adds a variable whose value will be the child's pid.
    pub(super) fn env_own_pid(&mut self, name: &[u8]) {
        let mut entry = [name, b"="].concat();
        entry.resize(entry.len() + PID_ROOM + 1, 0);
        self.pid_slots.push(self.env.len());
        self.env.push(entry);
    }

    pub(super) fn directory(&mut self, dir: &Path) -> io::Result<()> {
        self.directory = Some(c_path(dir)?);
        Ok(())
    }

    pub(super) fn umask(&mut self, mask: Option<u32>) {
        self.umask = mask;
    }

    /// Soft and hard limit of open files.
    pub(super) fn nofile(&mut self, soft: u64, hard: u64) {
        self.nofile = Some((soft, hard));
    }

    /// Killed when its parent dies, which is the process of this pid.
    pub(super) fn dies_with(&mut self, parent: i32) {
        self.dies_with = Some(parent);
    }

    /// User, group and further groups to become.
    pub(super) fn identity(&mut self, uid: u32, gid: u32, groups: Vec<u32>) {
        self.identity = Some((uid, gid, groups));
    }
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

/// A child that waits for a byte on `link`.
#[derive(Debug)]
pub(super) struct Clone {
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
    /// Whether it already is in the cgroup it was meant for.
    pub(super) is_in_cgroup: bool,
}

/// What the child reads and writes. All pointers go into the arena; the rest is on the stack: the heap
/// is not there in the child.
struct Prepared {
    path: *const libc::c_char,
    argv: *const *const libc::c_char,
    envp: *const *const libc::c_char,
    directory: *const libc::c_char,
    /// Where in the environment its pid goes.
    pid_digits: *const *mut u8,
    pids: usize,
    files: *const RawFd,
    lifted: *mut RawFd,
    count: usize,
    link: RawFd,
    umask: Option<u32>,
    nofile: Option<(u64, u64)>,
    /// User and group, and how many groups there are at what place.
    identity: Option<(u32, u32, usize, *const u32)>,
    dies_with: Option<i32>,
    _memory: Arena,
}

impl Prepared {
    fn new(program: &Program, files: &[BorrowedFd<'_>], link: BorrowedFd<'_>) -> io::Result<Self> {
        let groups = program.identity.as_ref().map_or(&[][..], |(_, _, groups)| groups);
        let texts = program.argv.iter().chain(&program.directory).chain([&program.path]);
        let text: usize = texts.map(|t| t.as_bytes_with_nul().len()).sum();
        let env: usize = program.env.iter().map(Vec::len).sum();
        // Pointers, each list with an end, and two numbers for each file.
        let lists = program.argv.len() + 1 + program.env.len() + 1 + program.pid_slots.len();
        let numbers = files.len() * 2 + groups.len();
        let bytes = text + env + lists * size_of::<usize>() + numbers * size_of::<u32>();
        let mut memory = Arena::new(bytes, program.argv.len() + program.env.len() + 9)?;

        let path = memory.put_text(&program.path)?;
        let directory = program.directory.as_ref().map(|d| memory.put_text(d)).transpose()?;
        let mut argv = Vec::new();
        for text in &program.argv {
            argv.push(memory.put_text(text)?.cast_const());
        }
        argv.push(std::ptr::null());
        let (mut envp, mut digits) = (Vec::new(), Vec::new());
        for (index, entry) in program.env.iter().enumerate() {
            let place = memory.put(entry)?;
            if program.pid_slots.contains(&index) {
                digits.push(place.wrapping_add(entry.len() - PID_ROOM - 1));
            }
            envp.push(place.cast::<libc::c_char>().cast_const());
        }
        envp.push(std::ptr::null());
        let raw: Vec<RawFd> = files.iter().map(|f| f.as_raw_fd()).collect();
        Ok(Self {
            path,
            argv: memory.put(&argv)?,
            envp: memory.put(&envp)?,
            directory: directory.map_or(std::ptr::null(), <*mut _>::cast_const),
            pid_digits: memory.put(&digits)?,
            pids: digits.len(),
            files: memory.put(&raw)?,
            lifted: memory.put(&raw)?,
            count: raw.len(),
            link: link.as_raw_fd(),
            umask: program.umask,
            nofile: program.nofile,
            identity: match &program.identity {
                Some((uid, gid, list)) => Some((*uid, *gid, list.len(), memory.put(list)?)),
                None => None,
            },
            dies_with: program.dies_with,
            _memory: memory,
        })
    }
}

/// Makes a child that will become the program, with `files` as its descriptors 0 and up.
///
/// # Errors
/// When the kernel makes no child.
pub(super) fn clone(
    program: &Program,
    files: &[BorrowedFd<'_>],
    link: BorrowedFd<'_>,
    cgroup: Option<BorrowedFd<'_>>,
) -> io::Result<Clone> {
    let prepared = Prepared::new(program, files, link)?;

    // A signal to the child must not run our handlers in it: they write to our own self-pipe.
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    let made = clone_blocked(&prepared, cgroup);
    before.thread_set_mask()?;
    made
}

fn clone_blocked(prepared: &Prepared, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Clone> {
    if let Some(cgroup) = cgroup {
        // Refused where the cgroup is gone, frozen or not ours to enter: made outside, moved after.
        if let Ok((pid, pidfd)) = clone3(prepared, Some(cgroup)) {
            return Ok(Clone { pid, pidfd, is_in_cgroup: true });
        }
    }
    let (pid, pidfd) = match clone3(prepared, None) {
        Ok(made) => made,
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => fork(prepared)?,
        Err(e) => return Err(e),
    };
    Ok(Clone { pid, pidfd, is_in_cgroup: false })
}

fn clone3(prepared: &Prepared, cgroup: Option<BorrowedFd<'_>>) -> io::Result<(i32, OwnedFd)> {
    let mut pidfd: RawFd = -1;
    let mut args = libc::clone_args {
        flags: u64::try_from(libc::CLONE_PIDFD).unwrap_or(0),
        pidfd: (&raw mut pidfd) as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: u64::try_from(libc::SIGCHLD).unwrap_or(0),
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: 0,
    };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::try_from(cgroup.as_raw_fd()).unwrap_or(0);
    }
    let hidden = Hidden::heap();
    #[expect(unsafe_code, reason = "no safe wrapper of clone3 in nix")]
    // SAFETY: without CLONE_VM the child has its own copy of memory and stack, as after fork, but for
    // the heap, of which `become_program` touches nothing; `args` and `pidfd` live to the end of the
    // call, and the size is theirs.
    let pid =
        unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    if pid == 0 {
        become_program(prepared);
    }
    let error = io::Error::last_os_error();
    drop(hidden);
    if pid < 0 {
        return Err(error);
    }
    #[expect(unsafe_code, reason = "the kernel wrote a bare number")]
    // SAFETY: clone3 succeeded with CLONE_PIDFD, so this is a new descriptor that only we know.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok((i32::try_from(pid).map_err(io::Error::other)?, pidfd))
}

fn fork(prepared: &Prepared) -> io::Result<(i32, OwnedFd)> {
    #[expect(unsafe_code, reason = "fork is unsafe in a program with threads")]
    // SAFETY: the child runs `become_program` only, which is async-signal-safe.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Child => become_program(prepared),
        nix::unistd::ForkResult::Parent { child } => {
            // It cannot be reaped before we ask, so the pid is still its.
            Ok((child.as_raw(), pidfd::open(child.as_raw())?))
        }
    }
}

/// The child's part. Only async-signal-safe calls; never returns.
#[expect(unsafe_code, reason = "bare system calls between clone and exec")]
#[expect(clippy::multiple_unsafe_ops_per_block, reason = "a row of system calls with one argument")]
fn become_program(p: &Prepared) -> ! {
    // SAFETY: every call is async-signal-safe; all pointers go into the arena, of which this process
    // has its own copy that is never unmapped here; lists are indexed within their length.
    unsafe {
        let count = p.count;
        let link_fd = i32::try_from(count).unwrap_or(i32::MAX - 2);
        // Handlers of the parent go first: they are no business of the child. Signals are still
        // blocked, so none of them can run.
        for signal in 1..=64 {
            libc::signal(signal, libc::SIG_DFL);
        }
        // Files are moved out of the way of each other, then into their places.
        let link = libc::fcntl(p.link, libc::F_DUPFD_CLOEXEC, link_fd + 1);
        if link < 0 {
            fail(p.link, Step::Files);
        }
        for i in 0..count {
            let fd = libc::fcntl(*p.files.add(i), libc::F_DUPFD_CLOEXEC, link_fd + 1);
            if fd < 0 {
                fail(link, Step::Files);
            }
            *p.lifted.add(i) = fd;
        }
        for (i, place) in (0..count).zip(0_i32..) {
            if libc::dup2(*p.lifted.add(i), place) < 0 {
                fail(link, Step::Files);
            }
        }
        if libc::dup3(link, link_fd, libc::O_CLOEXEC) < 0 {
            fail(link, Step::Files);
        }
        // Closed at once and not at exec, so that no sibling's link is kept open by this child.
        let first = u32::try_from(link_fd).unwrap_or(u32::MAX) + 1;
        if libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) != 0 {
            close_one_by_one(link_fd);
        }
        if libc::setpgid(0, 0) != 0 {
            fail(link_fd, Step::Group);
        }
        let mut go = 0_u8;
        loop {
            match libc::read(link_fd, (&raw mut go).cast(), 1) {
                1 => break,
                -1 if *libc::__errno_location() == libc::EINTR => {}
                // The agent is gone before it said go: then so are we.
                _ => libc::_exit(NOT_LET_GO),
            }
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        if let Some((soft, hard)) = p.nofile {
            let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
            if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) != 0 {
                fail(link_fd, Step::OpenFiles);
            }
        }
        if let Some((uid, gid, count, groups)) = p.identity {
            // The bare calls: the C library's would signal threads that do not exist in the child.
            if libc::syscall(libc::SYS_setgroups, count, groups) != 0 {
                fail(link_fd, Step::Groups);
            }
            if libc::syscall(libc::SYS_setgid, gid) != 0 {
                fail(link_fd, Step::Gid);
            }
            if libc::syscall(libc::SYS_setuid, uid) != 0 {
                fail(link_fd, Step::Uid);
            }
        }
        if !p.directory.is_null() && libc::chdir(p.directory) != 0 {
            fail(link_fd, Step::Directory);
        }
        if let Some(mask) = p.umask {
            libc::umask(mask);
        }
        if let Some(parent) = p.dies_with {
            // After the change of user, which would take it back.
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                fail(link_fd, Step::DiesWith);
            }
            // It may have died in between.
            if libc::syscall(libc::SYS_getppid) != i64::from(parent) {
                libc::_exit(NOT_LET_GO);
            }
        }
        let pid = libc::syscall(libc::SYS_getpid);
        for i in 0..p.pids {
            write_digits(*p.pid_digits.add(i), pid);
        }
        libc::execve(p.path, p.argv, p.envp);
        fail(link_fd, Step::Exec)
    }
}

/// For kernels before 5.9.
#[expect(unsafe_code, reason = "bare system calls between clone and exec")]
#[expect(clippy::multiple_unsafe_ops_per_block, reason = "a row of system calls")]
fn close_one_by_one(link_fd: RawFd) {
    // SAFETY: async-signal-safe calls on descriptors of this child, with a struct on its stack.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) != 0 {
            fail(link_fd, Step::Close);
        }
        let last = i32::try_from(limit.rlim_cur).unwrap_or(1 << 20).min(1 << 20);
        for fd in link_fd + 1..last {
            libc::close(fd);
        }
    }
}

/// Writes a number and a zero byte.
///
/// # Safety
/// `at` must have room for `PID_ROOM + 1` bytes.
#[expect(unsafe_code, reason = "the buffer is prepared memory, seen through a pointer")]
#[expect(clippy::multiple_unsafe_ops_per_block, reason = "digits one by one")]
unsafe fn write_digits(at: *mut u8, number: i64) {
    let mut digits = [0_u8; PID_ROOM];
    let mut left = number;
    let mut count = 0;
    while count < PID_ROOM {
        // A remainder of ten fits.
        digits[count] = b'0' + u8::try_from(left % 10).unwrap_or(0);
        left /= 10;
        count += 1;
        if left == 0 {
            break;
        }
    }
    // SAFETY: `count` is at most PID_ROOM, for which there is room by contract.
    unsafe {
        for i in 0..count {
            *at.add(i) = digits[count - 1 - i];
        }
        *at.add(count) = 0;
    }
}

/// Tells the parent which step failed and why, and ends as a shell does that cannot execute.
#[expect(unsafe_code, reason = "bare system calls between clone and exec")]
#[expect(clippy::multiple_unsafe_ops_per_block, reason = "a row of system calls")]
fn fail(link: RawFd, step: Step) -> ! {
    // SAFETY: async-signal-safe calls; the message lives on this stack.
    unsafe {
        let errno = (*libc::__errno_location()).to_ne_bytes();
        let message = [step as u8, errno[0], errno[1], errno[2], errno[3]];
        libc::write(link, message.as_ptr().cast(), message.len());
        libc::_exit(127)
    }
}

/// Reads what [`fail`] wrote: the step in words, and the error.
pub(super) fn decode_failure(message: &[u8]) -> Option<(&'static str, io::Error)> {
    let (step, errno) = message.split_first()?;
    let errno = i32::from_ne_bytes(errno.try_into().ok()?);
    Some((STEPS.get(usize::from(*step))?, io::Error::from_raw_os_error(errno)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_is_written_as_text() {
        for (number, text) in [(1, "1"), (4_194_304, "4194304"), (120, "120")] {
            let mut room = [b'x'; PID_ROOM + 1];
            #[expect(unsafe_code, reason = "the function under test")]
            // SAFETY: the array has the room that is asked for.
            unsafe {
                write_digits(room.as_mut_ptr(), number);
            }
            let end = room.iter().position(|b| *b == 0).unwrap();
            assert_eq!(std::str::from_utf8(&room[..end]).unwrap(), text);
        }
    }

    #[test]
    fn every_step_has_its_words() {
        let message = |step: u8| [step, 2, 0, 0, 0];
        let words = |step: u8| decode_failure(&message(step)).map(|(w, _)| w);
        assert_eq!(words(Step::Files as u8), Some("set up files"));
        assert_eq!(words(Step::Exec as u8), Some("execute"));
        assert_eq!(words(Step::Close as u8), Some("close files"));
        assert_eq!(words(Step::DiesWith as u8), Some("die with the agent"));
        assert_eq!(words(Step::DiesWith as u8 + 1), None);
        let (_, error) = decode_failure(&message(0)).unwrap();
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
        assert!(decode_failure(&[1, 2]).is_none());
    }
}
