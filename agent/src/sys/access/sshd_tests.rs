//! The drop-in with a real sshd that reads a directory of its own, and what it says of users.
#![expect(clippy::print_stdout, reason = "a test says why it is skipped")]

use super::*;

struct Place {
    _dir: tempfile::TempDir,
    sshd: Sshd,
    helper: Helper,
}

/// A configuration of sshd with these lines; none where there is no sshd.
fn place(config: &str) -> Option<Place> {
    let program = PathBuf::from("/usr/sbin/sshd");
    let keygen = Path::new("/usr/bin/ssh-keygen");
    if !program.exists() || !keygen.exists() || !nix::unistd::Uid::effective().is_root() {
        println!("skipped: needs root and OpenSSH's server");
        return None;
    }
    let dir = tempfile::tempdir_in("/root").unwrap();
    let d = dir.path().display().to_string();
    let key = format!("{d}/key");
    #[expect(clippy::disallowed_methods, reason = "a test makes a key")]
    let made = std::process::Command::new(keygen)
        .args(["-q", "-t", "ed25519", "-N", "", "-f", &key])
        .status()
        .unwrap();
    assert!(made.success());
    let text = format!("HostKey {key}\n{}\n", config.replace("@DIR@", &d));
    files::write_atomic(&dir.path().join("sshd_config"), text.as_bytes(), 0o600).unwrap();
    fs::create_dir(dir.path().join("sshd_config.d")).unwrap();
    let helper = Helper { program: "/usr/bin/env".into(), socket: None, user: "nobody".to_owned() };
    let sshd = Sshd { program, dir: dir.path().to_owned(), systemctl: None };
    Some(Place { _dir: dir, sshd, helper })
}

const INCLUDE: &str = "Include @DIR@/sshd_config.d/*.conf";

#[tokio::test]
async fn the_drop_in_is_put_in_place_once_and_taken_away() {
    let Some(p) = place(INCLUDE) else { return };
    let children = Children::default();
    assert!(p.sshd.set_up(&children, &p.helper).await.unwrap());
    assert!(!p.sshd.set_up(&children, &p.helper).await.unwrap(), "nothing is new the second time");
    let said = p.sshd.effective(&children, "root").await.unwrap();
    assert_eq!(said["authorizedkeyscommand"], ["/usr/bin/env authorized-keys %u %t %k %f"]);
    assert!(p.sshd.remove(&children).await.unwrap());
    assert!(!p.sshd.remove(&children).await.unwrap());
    assert_eq!(command_of(&p.sshd.effective(&children, "root").await.unwrap()), None);
}

#[tokio::test]
async fn where_it_would_have_no_effect_or_do_harm_nothing_is_left_behind() {
    let children = Children::default();
    for (config, what) in [
        ("", "has no effect"),
        (
            "AuthorizedKeysCommand /bin/other %u\nAuthorizedKeysCommandUser nobody",
            "another program",
        ),
        ("NoSuchOption yes", "not valid as it is"),
    ] {
        let Some(p) = place(config) else { return };
        let e = p.sshd.set_up(&children, &p.helper).await.unwrap_err();
        assert!(e.to_string().contains(what), "{e}");
        assert!(!p.sshd.drop_in().exists(), "{what}");
    }
    let Some(p) = place(INCLUDE) else { return };
    let bad = Helper { user: "two words".to_owned(), ..p.helper.clone() };
    let e = p.sshd.set_up(&children, &bad).await.unwrap_err();
    assert!(matches!(e, SetupError::Invalid(_)), "{e}");
    assert!(!p.sshd.drop_in().exists());
    let open = Helper { program: p.sshd.dir.join("helper"), ..p.helper.clone() };
    files::write_atomic(&open.program, b"", 0o777).unwrap();
    fs::set_permissions(&open.program, std::os::unix::fs::PermissionsExt::from_mode(0o777))
        .unwrap();
    let e = p.sshd.set_up(&children, &open).await.unwrap_err();
    assert!(matches!(e, SetupError::Unsafe { .. }), "{e}");
}

#[tokio::test]
async fn a_unit_that_starts_sshd_with_a_command_of_its_own_is_told_and_nothing_is_changed() {
    let Some(mut p) = place(INCLUDE) else { return };
    let children = Children::default();
    let systemctl = p.sshd.dir.join("systemctl");
    let script = |drop_in: &str| {
        let text = format!(
            "#!/bin/sh\n[ \"$1\" = show ] || exit 1\ncat <<'E'\n\
             ExecStart={{ path=/usr/sbin/sshd ; argv[]=/usr/sbin/sshd -D {drop_in} $SSHD_OPTS ; }}\n\
             DropInPaths=/lib/systemd/system/ssh.service.d/ec2-instance-connect.conf\nE\n"
        );
        files::write_atomic(&systemctl, text.as_bytes(), 0o755).unwrap();
    };
    p.sshd.systemctl = Some(systemctl.clone());
    script(
        "-o AuthorizedKeysCommand /usr/share/ec2-instance-connect/eic_run_authorized_keys %u %f",
    );
    let e = p.sshd.set_up(&children, &p.helper).await.unwrap_err();
    assert!(e.to_string().contains("ssh.service.d/ec2-instance-connect.conf"), "{e}");
    assert!(!p.sshd.drop_in().exists());
    script("");
    assert!(p.sshd.set_up(&children, &p.helper).await.unwrap());
    p.sshd.remove(&children).await.unwrap();
    // Where there is no systemd nobody starts sshd behind our back.
    p.sshd.systemctl = Some("/nonexistent/systemctl".into());
    assert!(p.sshd.set_up(&children, &p.helper).await.unwrap());
}

#[tokio::test]
async fn instance_connect_is_taken_over_and_gets_its_place_back() {
    let eic = "AuthorizedKeysCommand /opt/aws/bin/eic_run_authorized_keys %u %f\n\
               AuthorizedKeysCommandUser nobody";
    let Some(p) = place(&format!("{INCLUDE}\n{eic}")) else { return };
    let children = Children::default();
    assert!(p.sshd.set_up(&children, &p.helper).await.unwrap());
    p.sshd.remove(&children).await.unwrap();
    let back = command_of(&p.sshd.effective(&children, "root").await.unwrap());
    assert_eq!(back.unwrap(), "/opt/aws/bin/eic_run_authorized_keys %u %f");
}

#[test]
fn what_keeps_a_user_out_is_told() {
    let settings = |lines: &[(&str, &str)]| -> Effective {
        lines.iter().map(|(k, v)| ((*k).to_owned(), vec![(*v).to_owned()])).collect()
    };
    let told = |user: &str, lines: &[(&str, &str)]| obstacles(user, &settings(lines));
    assert!(told("deploy", &[("allowusers", "deploy")]).is_empty());
    assert!(told("deploy", &[("allowusers", "dep* other")]).is_empty());
    assert!(told("deploy", &[("authenticationmethods", "any")]).is_empty());
    for (user, key, value, what) in [
        ("deploy", "allowusers", "admin", "AllowUsers"),
        ("deploy", "denyusers", "deploy", "DenyUsers"),
        ("root", "permitrootlogin", "no", "PermitRootLogin"),
        (
            "deploy",
            "authenticationmethods",
            "publickey,keyboard-interactive",
            "more than the granted key",
        ),
        ("deploy", "pubkeyauthentication", "no", "PubkeyAuthentication"),
        ("deploy", "allowgroups", "ssh", "AllowGroups"),
    ] {
        let all = told(user, &[(key, value)]);
        assert!(all.len() == 1 && all[0].contains(what), "{all:?}");
    }
}
