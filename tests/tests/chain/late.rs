//! A host whose metadata is late: nothing is lost, and it is told under its own name.

use std::net::SocketAddr;

use palisade_e2e::aws::{Fake, logs::Faults};
use palisade_hosts::{
    imds::{Identity, Imds},
    lab::{GATEWAY, Lab},
    nspawn::{Host, HostOptions},
    packages::OLD,
    wait::wait_for,
};

use crate::{CAP, ID, origin};

const CONFIG: &str = r#"version: 1
aws: { region: auto }
programs:
  counter:
    command: ["/bin/sh", "-c", "n=0; while :; do echo $n; n=$((n+1)); sleep 0.2; done"]
logs:
  group: /palisade/late
  stream: "{instance_id}/{process}"
  sink: cloudwatch
  agent: false
"#;

#[test]
fn a_host_whose_metadata_is_late_ships_every_line_under_its_own_id() {
    let Some(packages) = crate::packages() else { return };
    let lab = Lab::new().unwrap();
    let imds = Imds::start(&lab).unwrap();
    imds.set(origin::ADDRESS.into(), Identity { down: true, ..Identity::new(ID) });
    let aws = SocketAddr::new(GATEWAY.parse().unwrap(), origin::AWS_PORT);
    let aws = Fake::serve(lab.listen(aws).unwrap(), Faults::default(), true).unwrap();
    let options = HostOptions::new("late")
        .address(origin::ADDRESS)
        .copy(&packages.deb(OLD), "/var/tmp/palisade.deb")
        .file("/etc/palisade/palisade.yaml", CONFIG)
        .file("/etc/systemd/system/palisade.service.d/lab.conf", origin::environment());
    let host = Host::boot(Some(&lab), options);
    host.ok("dpkg -i /var/tmp/palisade.deb");
    host.wait_ok(CAP, "palisade status | grep 'no AWS region is known'");
    assert_eq!(aws.logs.stats().requests, 0);

    imds.change(origin::ADDRESS.into(), |host| host.down = false);
    let lines = || aws.logs.stats().lines;
    wait_for("lines after all", CAP, || (lines() > 20).then_some(()));
    let kept = host.read("/var/lib/palisade/host.json");
    assert!(kept.contains(ID) && kept.contains("eu-west-1"), "{kept}");

    // Away again at a start: the agent knows region and name, and waits for credentials only.
    imds.change(origin::ADDRESS.into(), |host| host.down = true);
    host.ok("systemctl restart palisade");
    host.wait_ok(CAP, "palisade status | grep -i credential");
    imds.change(origin::ADDRESS.into(), |host| host.down = false);
    let before = lines();
    wait_for("lines after the second time", CAP, || (lines() > before + 20).then_some(()));

    let stats = aws.logs.stats();
    let streams: Vec<_> = stats.streams.keys().cloned().collect();
    assert_eq!(streams, [format!("/palisade/late {ID}/counter")]);
    assert!(stats.violations.is_empty(), "{stats:?}");
    let numbers: Vec<u64> =
        aws.logs.messages("/palisade/late").iter().filter_map(|m| m.trim().parse().ok()).collect();
    let begins: Vec<_> =
        numbers.iter().enumerate().filter(|(_, n)| **n == 0).map(|(i, _)| i).collect();
    assert_eq!(begins.len(), 2, "two lives of the program, each from its first line");
    for life in [&numbers[..begins[1]], &numbers[begins[1]..]] {
        let gaps: Vec<_> = life.windows(2).filter(|w| w[1] != w[0] + 1).collect();
        assert!(gaps.is_empty(), "lost or doubled: {gaps:?}");
    }
}
