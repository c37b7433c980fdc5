//! The files that OpenSSH reads for one run: its configuration and the host keys it may accept.
//!
//! Invariant: what another machine said is written only after every byte of it was checked, so it
//! cannot add a line.

use std::path::Path;

use palisade_types::grant::UserName;

use crate::failed::{Failed, Outcome};

/// Most host keys that one host may tell.
const MAX_KEYS: usize = 16;

/// One host as ssh is to see it.
#[derive(Clone, Debug)]
pub(crate) struct Host<'a> {
    /// What is typed for it.
    pub(crate) name: &'a str,
    pub(crate) user: &'a UserName,
    /// Where to connect; only for messages where a command carries the connection.
    pub(crate) address: &'a str,
    pub(crate) port: u16,
    /// Under which name its keys are known: it is the same host by whatever name.
    pub(crate) key_name: &'a str,
    pub(crate) login: Login<'a>,
    pub(crate) route: Route<'a>,
}

/// How the user is known there.
#[derive(Clone, Debug)]
pub(crate) enum Login<'a> {
    /// By the key of this run, on a host whose keys it told us.
    Granted { agent: &'a Path, public_key: &'a Path, known_hosts: &'a Path },
    /// By the user's own keys; the host's key is checked as ssh always does.
    Own,
}

/// How the connection gets there.
#[derive(Clone, Debug)]
pub(crate) enum Route<'a> {
    /// Through a socket of this program, which ssh is handed.
    Socket { program: &'a Path, socket: &'a Path },
    /// Through another host of the same file.
    Jump(&'a str),
}

/// Text of the configuration.
pub(crate) fn config(hosts: &[Host<'_>]) -> String {
    hosts.iter().map(host).collect()
}

fn host(host: &Host<'_>) -> String {
    let mut out = format!("Host {}\n", host.name);
    let mut line = |key: &str, value: &str| out.push_str(&format!("  {key} {value}\n"));
    line("HostName", host.address);
    line("Port", &host.port.to_string());
    line("User", host.user.as_str());
    line("HostKeyAlias", host.key_name);
    line("ControlPath", "none");
    line("ForwardAgent", "no");
    line("ServerAliveInterval", "20");
    line("ServerAliveCountMax", "6");
    if let Login::Granted { agent, public_key, known_hosts } = &host.login {
        line("IdentityAgent", &quoted(agent));
        line("IdentityFile", &quoted(public_key));
        line("IdentitiesOnly", "yes");
        line("PreferredAuthentications", "publickey");
        line("UserKnownHostsFile", &quoted(known_hosts));
        line("GlobalKnownHostsFile", "/dev/null");
        line("StrictHostKeyChecking", "yes");
        line("UpdateHostKeys", "no");
        line("VerifyHostKeyDNS", "no");
    }
    match &host.route {
        Route::Socket { program, socket } => {
            line("ProxyUseFdpass", "yes");
            // ssh gives the line to a shell, and `%` means something to ssh.
            let words = [program, socket].map(|p| shell_word(p).replace('%', "%%"));
            line("ProxyCommand", &format!("{} internal-fd {}", words[0], words[1]));
        }
        Route::Jump(name) => line("ProxyJump", name),
    }
    out
}

/// A path as ssh_config takes it.
fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display().to_string().replace('%', "%%"))
}

fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    shlex::try_quote(&text).map_or_else(|_| text.clone(), std::borrow::Cow::into_owned)
}

/// Text of the known_hosts file with a host's keys under `name`.
///
/// # Errors
/// When one of them is no key.
pub(crate) fn known_hosts(name: &str, keys: &[String]) -> Outcome<String> {
    if keys.len() > MAX_KEYS {
        return Err(Failed::plain(format!("{name}: {} host keys are too many", keys.len())));
    }
    let mut out = String::new();
    for key in keys {
        let mut words = key.split(' ');
        let good = matches!(
            (words.next(), words.next(), words.next()),
            (Some(algorithm), Some(blob), None) if is_word(algorithm) && is_base64(blob)
        );
        if !good {
            let shown: String = key.chars().take(40).collect();
            return Err(Failed::plain(format!("{name}: {shown:?} is no host key")));
        }
        out.push_str(&format!("{name} {key}\n"));
    }
    Ok(out)
}

fn is_word(s: &str) -> bool {
    (1..=64).contains(&s.len())
        && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"-@.".contains(&b))
}

fn is_base64(s: &str) -> bool {
    (16..=4096).contains(&s.len())
        && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b))
}

/// `SHA256:...` of a key as known_hosts has it, as ssh shows the one that it was offered.
pub(crate) fn fingerprint(key: &str) -> Option<String> {
    use base64::{Engine as _, engine::general_purpose};
    use sha2::{Digest as _, Sha256};
    let blob = general_purpose::STANDARD.decode(key.split(' ').nth(1)?).ok()?;
    Some(format!("SHA256:{}", general_purpose::STANDARD_NO_PAD.encode(Sha256::digest(blob))))
}

/// Whether ssh and scp take this as a host's name without a second meaning.
pub(crate) fn is_plain_name(name: &str) -> bool {
    !name.starts_with('-')
        && !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGVqNAXp4K6wkQ0RJMVLbZ4cLqyqiMh1bWwBhmQp1KuU";

    fn write(dir: &Path, user: &UserName) -> String {
        let granted = Login::Granted {
            agent: &dir.join("a b.sock"),
            public_key: &dir.join("id.pub"),
            known_hosts: &dir.join("known_hosts"),
        };
        let direct = Host {
            name: "web1",
            user,
            address: "i-1",
            port: 22,
            key_name: "i-1",
            login: granted,
            route: Route::Socket {
                program: "/opt/my tools/100%/bastionctl".as_ref(),
                socket: &dir.join("w.sock"),
            },
        };
        let jumped = Host {
            name: "db",
            address: "10.0.0.9",
            port: 2222,
            key_name: "i-2",
            login: Login::Own,
            route: Route::Jump("web1"),
            ..direct.clone()
        };
        config(&[direct, jumped])
    }

    #[tokio::test]
    #[expect(clippy::print_stdout, reason = "a test says why it is skipped")]
    async fn openssh_reads_the_file_as_it_is_meant() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("config");
        crate::dirs::write_private(
            &path,
            write(temp.path(), &"deploy".parse().unwrap()).as_bytes(),
        )
        .unwrap();
        let path = path.to_str().unwrap();
        let Ok(read) = crate::program::output("ssh", &["-G", "-F", path, "web1"], &[]).await else {
            return println!("skipped: ssh is not installed");
        };
        for line in [
            "user deploy",
            "hostkeyalias i-1",
            "stricthostkeychecking true",
            "identitiesonly yes",
            "proxyusefdpass yes",
            "forwardagent no",
            "proxycommand '/opt/my tools/100%%/bastionctl' internal-fd",
        ] {
            assert!(read.lines().any(|l| l.starts_with(line)), "{line}: {read}");
        }
        assert!(read.contains("/a b.sock\n"), "{read}");
        let read = crate::program::output("ssh", &["-G", "-F", path, "db"], &[]).await.unwrap();
        assert!(read.contains("proxyjump web1\n") && read.contains("port 2222\n"), "{read}");
        assert!(!read.contains("stricthostkeychecking false"), "{read}");
    }

    #[test]
    fn host_keys_cannot_add_a_line() {
        let text = known_hosts("i-1", &[KEY.to_owned()]).unwrap();
        assert_eq!(text, format!("i-1 {KEY}\n"));
        for bad in [
            format!("{KEY}\n* {KEY}"),
            format!("{KEY} comment"),
            format!("@cert-authority * {KEY}"),
            "ssh-ed25519".to_owned(),
            "ssh-ed25519 $(id)AAAAAAAAAAAAAAA".to_owned(),
            String::new(),
        ] {
            assert!(known_hosts("i-1", std::slice::from_ref(&bad)).is_err(), "{bad:?}");
        }
        assert!(known_hosts("i-1", &vec![KEY.to_owned(); 17]).is_err());
        assert!(fingerprint(KEY).unwrap().starts_with("SHA256:"));
    }

    #[test]
    fn names_that_mean_something_else_to_ssh_are_not_plain() {
        assert!(is_plain_name("web-1.prod"));
        for name in ["-web", "", "a b", "tag:Role=web", "web*", "a/b", "[::1]"] {
            assert!(!is_plain_name(name), "{name}");
        }
    }
}
