//! What sshd is started with: an option on its command line beats every file, so that a drop-in with the
//! same option changes nothing, and `sshd -T`, which has another command line, does not show it.

use std::{path::PathBuf, time::Duration};

use super::{
    super::{
        children::Children,
        exec::{self, Cmd},
        proc,
    },
    processes::title,
    sshd::VERB,
    trace::is_one_of,
};

/// What sshd is called by Debian and by Amazon Linux.
const UNITS: [&str; 2] = ["ssh.service", "sshd.service"];
const WITHIN: Duration = Duration::from_secs(10);
/// A drop-in of Ubuntu's and Amazon's package `ec2-instance-connect`.
const EIC: &str = "ec2-instance-connect";

/// The file of sshd's unit that beats our drop-in, if one does. None also where there is no systemd.
pub(super) async fn rival(children: &Children, systemctl: PathBuf) -> Option<PathBuf> {
    let asked = ["show", "--no-pager", "-p", "Id,ExecStart,DropInPaths,FragmentPath", "--"];
    let cmd = Cmd::new(systemctl)
        .args(asked)
        .args(UNITS)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .deadline(WITHIN);
    match exec::run(children, cmd).await {
        Ok(out) => rival_in(&String::from_utf8_lossy(&out.stdout)),
        Err(e) => {
            tracing::debug!(error = %e, "systemd does not say how sshd is started");
            None
        }
    }
}

/// The same of what `systemctl show` says: one paragraph for each unit.
fn rival_in(shown: &str) -> Option<PathBuf> {
    shown.split("\n\n").find_map(|unit| {
        let values = |key: &str| -> Vec<&str> {
            unit.lines().filter_map(|l| l.strip_prefix(key)?.strip_prefix('=')).collect()
        };
        if !values("ExecStart").iter().any(|words| beats(words)) {
            return None;
        }
        let paths = |key: &str| values(key).into_iter().flat_map(str::split_ascii_whitespace);
        let drop_ins: Vec<&str> = paths("DropInPaths").collect();
        let named = drop_ins.iter().find(|p| p.contains(EIC)).or(drop_ins.last()).copied();
        let file = named.or_else(|| paths("FragmentPath").next());
        file.or_else(|| paths("Id").next()).map(PathBuf::from)
    })
}

/// The sshd that runs with such an option, if one does: the one that init started.
pub(super) fn running_rival(programs: &[PathBuf]) -> Option<i32> {
    proc::pids().into_iter().find(|pid| {
        proc::stat(*pid).is_ok_and(|s| s.parent == 1)
            && is_one_of(*pid, programs)
            && proc::is_roots(*pid)
            && title(*pid).is_some_and(|t| beats(&t))
    })
}

/// Whether a command line has the option, in any of the ways that sshd takes, for a program not ours.
fn beats(words: &str) -> bool {
    words.to_ascii_lowercase().contains("authorizedkeyscommand") && !words.contains(VERB)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const UBUNTU: &str = "\
ExecStart={ path=/usr/sbin/sshd ; argv[]=/usr/sbin/sshd -D -o AuthorizedKeysCommand /usr/share/ec2-instance-connect/eic_run_authorized_keys %u %f -o AuthorizedKeysCommandUser ec2-instance-connect $SSHD_OPTS ; ignore_errors=no ; start_time=[n/a] ; stop_time=[n/a] ; pid=0 ; code=(null) ; status=0/0 }
Id=ssh.service
FragmentPath=/lib/systemd/system/ssh.service
DropInPaths=/lib/systemd/system/ssh.service.d/ec2-instance-connect.conf /etc/systemd/system/ssh.service.d/local.conf
";
    const DEBIAN: &str = "\
ExecStart={ path=/usr/sbin/sshd ; argv[]=/usr/sbin/sshd -D $SSHD_OPTS ; ignore_errors=no ; start_time=[n/a] ; stop_time=[n/a] ; pid=0 ; code=(null) ; status=0/0 }
Id=ssh.service
FragmentPath=/lib/systemd/system/ssh.service
DropInPaths=
";

    #[test]
    fn ubuntus_drop_in_for_instance_connect_is_named_and_a_plain_unit_is_none() {
        let eic = Path::new("/lib/systemd/system/ssh.service.d/ec2-instance-connect.conf");
        assert_eq!(rival_in(UBUNTU).as_deref(), Some(eic));
        let both = format!("Id=sshd.service\n\n{UBUNTU}");
        assert_eq!(rival_in(&both).as_deref(), Some(eic));
        assert_eq!(rival_in(DEBIAN), None);
        assert_eq!(rival_in(&format!("{DEBIAN}\nId=sshd.service\nExecStart=\n")), None);
        assert_eq!(rival_in(""), None);
    }

    #[test]
    fn the_unit_itself_is_named_where_it_has_no_drop_in_and_our_own_command_is_no_rival() {
        let own =
            UBUNTU.lines().filter(|l| !l.starts_with("DropIn")).collect::<Vec<_>>().join("\n");
        assert_eq!(rival_in(&own).as_deref(), Some(Path::new("/lib/systemd/system/ssh.service")));
        let ours = "/usr/share/ec2-instance-connect/eic_run_authorized_keys %u %f";
        let ours = UBUNTU.replace(ours, "/usr/bin/palisade authorized-keys %u %t %k %f");
        assert_eq!(rival_in(&ours), None);
        assert!(beats("sshd: /usr/sbin/sshd -D -oauthorizedkeyscommand=/x [listener] 0 of 10-100"));
        assert!(!beats("sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups"));
    }
}
