//! The RPM package's scriptlets on a real systemd: Debian's rpm runs them as a distribution of its own
//! would. Names of dependencies and SELinux are not seen here.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests on real time, which print figures and why they were skipped"
)]

mod common;

use std::{fs, path::Path};

use common::{
    load::Load,
    rpms_or_skip,
    site::{self, CONFIG, CONFIG_PATH, agent_pid, pids, wait_ready},
};
use palisade_hosts::{
    exec::Output,
    nspawn::Host,
    packages::{NEW, OLD, Packages},
    tools, trees,
};

/// A host with both packages below `/root` and nothing installed.
fn host(name: &str, packages: &Packages) -> Host {
    let options = site::options(name)
        .copy(&packages.rpm(OLD), "/root/old.rpm")
        .copy(&packages.rpm(NEW), "/root/new.rpm");
    Host::boot(None, options)
}

/// Debian's rpm keeps its database in root's home and warns, unless told where and why.
fn rpm(host: &Host, args: &str) -> Output {
    host.run(&format!("rpm --dbpath /usr/lib/sysimage/rpm {args} 2>&1"))
}

fn change(host: &Host, args: &str) -> String {
    let out = rpm(host, &format!("--force-debian --nodeps {args}"));
    assert!(out.success(), "rpm {args}: {}", out.all());
    out.stdout
}

fn version(host: &Host) -> String {
    rpm(host, "-q --qf '%{VERSION}' palisade").stdout
}

#[test]
fn an_rpm_is_enabled_when_installed_and_starts_nothing() {
    let Some(packages) = rpms_or_skip() else { return };
    let host = host("rpm", &packages);
    change(&host, "-U /root/old.rpm");
    let state =
        host.run("systemctl is-enabled palisade palisade-firewall; systemctl is-active palisade");
    assert_eq!(state.stdout, "enabled\nenabled\ninactive\n");
    assert_eq!(host.ok("stat -c '%a %U' /var/lib/palisade /etc/palisade"), "700 root\n755 root\n");
    host.ok("getent group palisade && systemctl start palisade");
    wait_ready(&host);
    // At the next boot it starts by itself.
    host.reboot();
    wait_ready(&host);
    assert_eq!(host.ok("systemctl --failed --plain --no-legend"), "");
}

#[test]
fn an_rpm_upgrade_under_load_keeps_every_process_and_the_configuration() {
    let Some(packages) = rpms_or_skip() else { return };
    let host = host("rpm-up", &packages);
    change(&host, "-U /root/old.rpm");
    let edited = format!("{CONFIG}# edited by hand\n");
    host.write(CONFIG_PATH, &edited);
    host.ok("systemctl start palisade");
    let (before, agent) = (wait_ready(&host), agent_pid(&host));
    let load = Load::start(&host);
    let said = change(&host, "-U /root/new.rpm");
    assert_eq!((wait_ready(&host), agent_pid(&host)), (before.clone(), agent), "{said}");
    let result = load.end();
    println!("upgraded under load: {} requests, {} failed", result.sent, result.failed);
    assert!(result.sent > 50 && result.failed == 0, "{result:?}");
    assert_eq!(result.pids, [before["web"]]);
    assert_eq!((version(&host), host.read(CONFIG_PATH)), (NEW.to_owned(), edited));
    assert_eq!(host.ok("find /etc/palisade -name '*.rpm*'"), "");
    assert!(host.ok("palisade status").contains(&format!("palisade {NEW}")), "{said}");
    site::assert_no_line_lost_or_doubled(&host);

    // Back again only when asked for by name.
    let refused = rpm(&host, "--force-debian --nodeps -U /root/old.rpm");
    assert!(!refused.success() && refused.stdout.contains("newer than"), "{}", refused.all());
    change(&host, "-U --oldpackage /root/old.rpm");
    assert_eq!((wait_ready(&host), agent_pid(&host)), (before, agent));
    assert_eq!(version(&host), OLD);
}

#[test]
fn an_erased_rpm_leaves_a_sound_host_and_what_people_wrote() {
    let Some(packages) = rpms_or_skip() else { return };
    let host = host("rpm-e", &packages);
    change(&host, "-U /root/old.rpm");
    host.ok("systemctl start palisade");
    wait_ready(&host);
    let web = pids(&host)["web"];
    change(&host, "-e palisade");
    assert!(!host.run(&format!("kill -0 {web}")).success(), "programs end with the agent");
    assert!(!host.run("systemctl is-enabled palisade").success());
    assert_eq!(host.ok("find /etc/systemd/system -name '*palisade*'"), "");
    host.ok(&format!("sshd -t && nginx -t && test -e {CONFIG_PATH} && test -d /var/lib/palisade"));
    assert_eq!(host.ok("systemctl --failed --plain --no-legend"), "");
}

#[test]
fn rpm_tells_a_changed_binary_from_a_whole_one() {
    let Some(packages) = rpms_or_skip() else { return };
    let host = host("rpm-v", &packages);
    change(&host, "-U /root/old.rpm");
    let told = || rpm(&host, "-V --nodeps palisade").stdout;
    let whole = told();
    assert!(
        !whole.contains("/usr/bin/palisade") && !whole.contains("/usr/lib/palisade"),
        "{whole}"
    );
    host.ok("printf x >> /usr/lib/palisade/launch");
    let line = told();
    let line = line.lines().find(|l| l.contains("/usr/lib/palisade/launch")).unwrap();
    assert!(line.starts_with("S.5"), "size and digest: {line}");
}

/// Makes a key and signs; prints the public key. usage: DIR RPM
const SIGN: &str = r#"
set -eu
export GNUPGHOME=$1/gpg
mkdir -m 700 "$GNUPGHOME"
gpg --batch --quiet --passphrase '' --quick-generate-key tests@palisade.example rsa3072 sign never
rpmsign --define '_gpg_name tests@palisade.example' --define '__gpg /usr/bin/gpg' --addsign "$2" >&2
gpg --armor --export tests@palisade.example
gpgconf --kill all
"#;

#[test]
fn an_unsigned_rpm_is_refused_where_signatures_are_asked_for_and_a_signed_one_taken() {
    let Some(packages) = rpms_or_skip() else { return };
    let host = host("rpm-k", &packages);
    let strict = "--define '_pkgverify_level all' --force-debian --nodeps -U";
    let refused = rpm(&host, &format!("{strict} /root/old.rpm"));
    assert!(!refused.success() && refused.stdout.contains("no signature"), "{}", refused.all());
    assert!(!host.run("test -e /usr/bin/palisade").success());

    if let Err(why) = trees::for_tools() {
        println!("no tools to sign with: {why}");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let signed = dir.path().join("signed.rpm");
    fs::copy(packages.rpm(OLD), &signed).unwrap();
    let key = sign(dir.path(), &signed);
    host.write("/root/key.asc", &key);
    host.copy_in(&signed, "/root/signed.rpm");
    let unknown = rpm(&host, &format!("{strict} /root/signed.rpm"));
    assert!(!unknown.success() && unknown.stdout.contains("NOKEY"), "{}", unknown.all());
    let imported = rpm(&host, "--import /root/key.asc");
    assert!(imported.success(), "{}", imported.all());
    change(&host, "--define '_pkgverify_level all' -U /root/signed.rpm");
    assert_eq!(version(&host), OLD);
}

fn sign(dir: &Path, rpm: &Path) -> String {
    let cmd = tools::cmd_with("sh", &[dir]).unwrap();
    cmd.args(["-c", SIGN, "sign"]).arg(dir).arg(rpm).run().unwrap()
}
