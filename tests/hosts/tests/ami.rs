//! The image of an origin host: the template, a real build under QEMU, the sealed disk looked at
//! without booting it, and two hosts from one image.
#![expect(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test")]

#[path = "common/guests.rs"]
mod guests;

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use guests::{deb_or_skip, kit_or_skip, say};
use palisade_hosts::{
    ami::{Build, problems, validate},
    imds::{Identity, Imds},
    lab::Lab,
    trees::{self, target_dir, workspace},
    vm::{Disk, Kit, Options, Vm, script},
};
use serde_json::Value;

/// Where the host that is an EC2 instance is, and who.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 41);
const INSTANCE: &str = "i-0fedcba9876543210";

const CAP: Duration = Duration::from_secs(300);

/// What an enrolled host is told, but for where its logs go.
const ENROLLED: &str = "version: 1\n\
    programs: { site: { command: [sh, -c, \"echo up; exec sleep infinity\"], user: app } }\n";

/// Lines of `debugfs -R ...` for each question, with a mark between them.
const LOOK: &str = r#"
disk=$1
ask() { echo "== $1"; debugfs -R "$1" "$disk" 2> /dev/null; }
ask 'cat /etc/machine-id'
ask 'ls -p /etc/ssh'
ask 'ls -p /home/admin/.ssh'
ask 'ls -p /root/.ssh'
ask 'ls -p /etc/palisade'
ask 'ls -p /var/lib'
ask 'ls -p /var/lib/apt/lists'
ask 'ls -p /var/log/journal'
ask 'ls -p /var/lib/systemd'
ask 'ls -p /tmp'
ask 'cat /usr/share/palisade/sbom.spdx.json'
"#;

/// Gives the disk the key of its user, as a cloud does at the first boot of each instance.
const LET_IN: &str = r#"
disk=$1 key=$2
uid=$(debugfs -R 'stat /home/admin' "$disk" 2> /dev/null | sed -n 's/^User: *\([0-9]*\).*/\1/p')
file=/home/admin/.ssh/authorized_keys
printf '%s\n' "write $key $file" "sif $file uid $uid" "sif $file gid $uid" "sif $file mode 0100600" > /tmp/commands
debugfs -w -f /tmp/commands "$disk" > /tmp/said 2>&1
debugfs -R "cat $file" "$disk" 2> /dev/null | grep -q ssh-ed25519
"#;

/// Whether there is a tools tree; else the reason is printed.
fn tools_or_skip() -> bool {
    trees::for_tools().inspect_err(|why| say(why)).is_ok()
}

fn template() -> PathBuf {
    workspace().join("ami")
}

#[test]
fn the_template_is_valid_and_closed() {
    let text = fs::read_to_string(template().join("origin.pkr.hcl")).unwrap();
    assert_eq!(problems(&text), Vec::<String>::new());
    if !tools_or_skip() {
        return;
    }
    let out = tempfile::tempdir().unwrap();
    validate(&template(), out.path()).unwrap();
}

#[test]
fn a_template_that_packer_refuses_is_refused() {
    if !tools_or_skip() {
        return;
    }
    let broken = tempfile::tempdir().unwrap();
    let copy = broken.path().join("ami");
    let copied = Command::new("cp").arg("-r").arg(template()).arg(&copy).status().unwrap();
    assert!(copied.success());
    let main = copy.join("origin.pkr.hcl");
    let text = fs::read_to_string(&main).unwrap();
    fs::write(&main, text.replace("disk_interface   =", "disk_interfaces  =")).unwrap();
    let out = tempfile::tempdir().unwrap();
    let e = validate(&copy, out.path()).unwrap_err();
    assert!(format!("{e:#}").contains("disk_interfaces"), "{e:#}");
}

#[test]
fn publishing_sets_one_parameter_in_each_region_and_nothing_without_an_environment() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = dir.path().join("manifest.json");
    fs::write(
        &manifest,
        r#"{ "builds": [
            { "builder_type": "amazon-ebs", "packer_run_uuid": "old", "artifact_id": "eu-central-1:ami-0" },
            { "builder_type": "qemu", "packer_run_uuid": "new", "artifact_id": "VM" },
            { "builder_type": "amazon-ebs", "packer_run_uuid": "new", "artifact_id": "eu-central-1:ami-1,us-east-1:ami-2" }
        ], "last_run_uuid": "new" }"#,
    )
    .unwrap();
    let stub = dir.path().join("aws");
    fs::write(&stub, "#!/bin/sh\necho aws \"$@\" >> \"$CALLS\"\n").unwrap();
    assert!(Command::new("chmod").arg("+x").arg(&stub).status().unwrap().success());
    let calls = dir.path().join("calls");
    let publish = |environment: Option<&str>| {
        let path = std::env::var("PATH").unwrap();
        let mut command = Command::new(template().join("publish.sh"));
        command.arg(&manifest).env("PATH", format!("{}:{path}", dir.path().display()));
        command.env("CALLS", &calls).env_remove("PUBLISH_TO");
        if let Some(environment) = environment {
            command.env("PUBLISH_TO", environment);
        }
        command.output().unwrap()
    };

    assert!(publish(None).status.success());
    assert!(!calls.exists());

    let done = publish(Some("prod"));
    assert!(done.status.success(), "{done:?}");
    let call = |region: &str, ami: &str| {
        format!(
            "aws ssm put-parameter --region {region} --name /palisade/prod/ami/origin --type String \
             --data-type aws:ec2:image --value {ami} --overwrite\n"
        )
    };
    let expected = call("eu-central-1", "ami-1") + &call("us-east-1", "ami-2");
    assert_eq!(fs::read_to_string(&calls).unwrap(), expected);

    // An AWS CLI that fails is a build that fails.
    fs::write(&stub, "#!/bin/sh\nexit 254\n").unwrap();
    assert!(!publish(Some("prod")).status.success());
}

#[test]
fn an_image_is_built_and_sealed_and_gives_each_host_an_identity_of_its_own() {
    let (Some(deb), Some(kit)) = (deb_or_skip(), kit_or_skip()) else { return };
    let out = target_dir().join("ami");
    let start = Instant::now();
    let build = Build { template: &template(), deb: &deb, git_sha: "0123456789abcdef", out: &out };
    let built = build.run(&say).unwrap();
    let size = fs::metadata(&built.image).unwrap().len() >> 20;
    say(&format!("built in {:.0?}, {size} MiB", start.elapsed()));
    let checks = built.log.lines().filter(|l| l.contains("ok: ")).count();
    say(&format!("{checks} checks of the image passed"));
    assert!(checks > 30, "{}", built.log);

    let manifest: Value = serde_json::from_slice(&fs::read(&built.manifest).unwrap()).unwrap();
    assert_eq!(manifest["builds"][0]["custom_data"]["git_sha"], "0123456789abcdef");
    let sbom = fs::read_to_string(&built.sbom).unwrap();
    sbom_is_whole(&sbom);

    let raw = out.canonicalize().unwrap().join("sealed.raw");
    let convert = "qemu-img convert -O raw \"$1\" \"$2\"";
    let image = built.image.canonicalize().unwrap();
    script(convert, &[&image, &raw], &[], CAP).unwrap();
    let seen = script(LOOK, &[&raw], &[], CAP).unwrap();
    is_sealed(&seen);
    assert!(seen.contains(&sbom), "the image carries its own list of contents");

    let key = kit.dir().join("key.pub");
    script(LET_IN, &[&raw, &key], &[], CAP).unwrap();
    let lab = Lab::new().unwrap();
    let imds = Imds::start(&lab).unwrap();
    imds.set(ADDRESS.into(), Identity::new(INSTANCE));
    let start = Instant::now();
    let (plain, instance) = std::thread::scope(|scope| {
        let plain = scope.spawn(|| first_boot(&kit, &raw, None));
        let instance = first_boot(&kit, &raw, Some(&lab));
        (plain.join().unwrap(), instance)
    });
    say(&format!("two hosts from it, with the agent running, in {:.0?}", start.elapsed()));
    assert_ne!(plain.machine, instance.machine, "machine-id");
    assert_ne!(plain.key, instance.key, "host key");
    // Without a metadata service it is the host's name.
    assert!(instance.streams.contains(&format!("{INSTANCE}/site")), "{}", instance.streams);
    assert!(plain.streams.contains("guest/site"), "{}", plain.streams);
}

/// What makes a host one host.
struct Host {
    machine: String,
    key: String,
    /// What the agent ships under which name.
    streams: String,
}

/// Boots, looks, enrols the host and starts the agent. In a lab it is an EC2 instance.
fn first_boot(kit: &Kit, raw: &Path, lab: Option<&Lab>) -> Host {
    let image = Disk { file: raw.to_owned(), user: "admin".to_owned() };
    let options = Options {
        lab: lab.map(|lab| (lab.clone(), ADDRESS)),
        is_ec2: lab.is_some(),
        patience: Duration::from_secs(600),
        ..Options::default()
    };
    let vm = Vm::boot(kit, &image, &options).unwrap();
    let state = vm.run("systemctl is-system-running --wait; systemctl --failed").unwrap().stdout;
    assert!(state.starts_with("running"), "{state}");
    let machine = vm.ok("cat /etc/machine-id").unwrap();
    assert_eq!(machine.len(), 32, "{machine}");
    let keys = vm.ok("ls /etc/ssh/ssh_host_*.pub").unwrap();
    assert_eq!(keys, "/etc/ssh/ssh_host_ed25519_key.pub");
    // A journal on disk, and nothing that others reach but ssh.
    vm.ok(&format!("test -d /var/log/journal/{machine}")).unwrap();
    let listens = "ss -Hlnt | awk '{ print $4 }' | grep -Ev '^127|^.::1.|:22$' || true";
    let listens = vm.ok(listens).unwrap();
    assert_eq!(listens, "");

    // Enrolled or not is one file.
    assert_eq!(vm.run("systemctl is-active palisade").unwrap().code(), Some(3));
    let logs =
        if lab.is_some() { "aws: { region: auto }\nlogs: {}\n" } else { "logs: { sink: local }\n" };
    vm.write("/tmp/palisade.yaml", &format!("{ENROLLED}{logs}")).unwrap();
    let enrol = "install -m 0600 /tmp/palisade.yaml /etc/palisade/palisade.yaml";
    vm.ok(&format!("{enrol} && systemctl start palisade")).unwrap();
    vm.wait("palisade status site", CAP).unwrap();
    assert_eq!(vm.ok("ps -o user= -p $(pgrep -x sleep)").unwrap(), "app");
    if lab.is_some() {
        assert_eq!(vm.ok("cat /sys/class/dmi/id/sys_vendor").unwrap(), "Amazon EC2");
    }
    let streams = vm.wait("palisade logs status --json | grep /site", CAP).unwrap();
    Host { machine, key: vm.ok("cat /etc/ssh/ssh_host_ed25519_key.pub").unwrap(), streams }
}

/// Nothing of the machine that the image was made on.
fn is_sealed(seen: &str) {
    let answer = |question: &str| {
        let begin = format!("== {question}\n");
        let rest = seen.split_once(&begin).unwrap_or_else(|| panic!("no answer to {question}")).1;
        // An empty answer ends where the next question begins.
        format!("\n{rest}").split("\n== ").next().unwrap().trim().to_owned()
    };
    assert_eq!(answer("cat /etc/machine-id"), "", "the machine's id");
    let none = |question: &str, part: &str| {
        let answer = answer(question);
        assert!(!answer.contains(part), "{question}: {answer}");
    };
    none("ls -p /etc/ssh", "ssh_host_");
    none("ls -p /home/admin/.ssh", "authorized_keys");
    none("ls -p /root/.ssh", "authorized_keys");
    none("ls -p /etc/palisade", "palisade.yaml");
    none("ls -p /var/lib", "/palisade/");
    none("ls -p /var/lib/apt/lists", "Packages");
    none("ls -p /var/lib/systemd", "random-seed");
    none("ls -p /tmp", "script_");
    // What is there was looked at: these names must be.
    assert!(answer("ls -p /etc/ssh").contains("sshd_config"));
    assert!(answer("ls -p /var/lib").contains("/dpkg/"));
    let journals = answer("ls -p /var/log/journal");
    assert_eq!(journals.lines().count(), 2, "only itself and its parent: {journals}");
}

/// A document that names each package once and describes them all.
fn sbom_is_whole(text: &str) {
    let sbom: Value = serde_json::from_str(text).unwrap();
    assert_eq!(sbom["spdxVersion"], "SPDX-2.3");
    let packages = sbom["packages"].as_array().unwrap();
    let mut ids: Vec<&str> = packages.iter().map(|p| p["SPDXID"].as_str().unwrap()).collect();
    let relations = sbom["relationships"].as_array().unwrap();
    let described = relations.iter().map(|r| r["relatedSpdxElement"].as_str().unwrap());
    assert_eq!(described.collect::<Vec<_>>(), ids);
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count);
    let names = ["palisade", "nginx-light", "python3-venv", "systemd", "openssl"];
    for name in names {
        assert!(packages.iter().any(|p| p["name"] == name), "{name} is not listed");
    }
    say(&format!("{count} packages listed"));
}
