//! Whom the kernel kills first when memory runs out.

use std::{fs, io, io::Write as _, path::PathBuf};

/// Takes from a program that was just made what systemd gave to the agent alone: being spared when
/// the host runs out of memory. Else the kernel would kill sshd and NGINX in the programs' place.
///
/// # Errors
/// What the kernel says; also when the process is gone.
pub fn spare_no_more_than_others(pid: i32) -> io::Result<()> {
    let file = PathBuf::from(format!("/proc/{pid}/oom_score_adj"));
    if !fs::read_to_string(&file)?.starts_with('-') {
        return Ok(());
    }
    fs::OpenOptions::new().write(true).open(&file)?.write_all(b"0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a process to try it on")]
    #[expect(clippy::print_stderr, reason = "a test says why it is skipped")]
    fn a_program_is_spared_no_more_than_others_and_keeps_what_it_was_given_beyond() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let file = format!("/proc/{pid}/oom_score_adj");
        let set = |n: &[u8]| fs::OpenOptions::new().write(true).open(&file).unwrap().write_all(n);
        if set(b"-800").is_ok() {
            spare_no_more_than_others(pid).unwrap();
            assert_eq!(fs::read_to_string(&file).unwrap(), "0\n");
            set(b"300").unwrap();
            spare_no_more_than_others(pid).unwrap();
            assert_eq!(fs::read_to_string(&file).unwrap(), "300\n");
        } else {
            eprintln!("skipped: no right to spare a process here");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(spare_no_more_than_others(pid).is_err());
    }
}
