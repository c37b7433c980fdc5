//! Patching by dnf: real dnf, rpm and a repository with advisories, in the tools root.
#![expect(clippy::print_stdout, reason = "a test says why it is skipped")]

#[path = "patching/binary.rs"]
mod binary;

use std::{fs, time::Duration};

use palisade_hosts::{tools, trees};
use serde_json::Value;

/// usage: DIR AGENT. Everything is made, asked and done in one run: the root is gone afterwards.
const SCRIPT: &str = r#"
set -eu
cd "$1"
agent=$2
pack() {
    spec=build/$1-$2.spec
    mkdir -p build
    { echo "Name: $1"; echo "Version: ${2%-*}"; echo "Release: ${2#*-}"; echo "Summary: t"
      echo "License: t"; echo "BuildArch: noarch"; [ -z "${4:-}" ] || echo "Requires: $4"
      echo "%description"; echo "%files"; } > "$spec"
    rpmbuild --quiet --define "_topdir $PWD/build" --define "_rpmdir $PWD/$3" -bb "$spec" >&2
}
pack baz 1.0-1 2026.1
pack baz 1.0-2 2026.1
pack baz 1.1-1 2026.1
pack bar 1.0-1 2026.1
pack bar 1.1-1 2026.1
pack heldp 1.0-1 2026.1
pack heldp 1.0-2 2026.1
# A later release has another update, which a host that is locked to the first does not see.
cp -r 2026.1 2026.2
pack bar 2.0-1 2026.2
advisory() {
    cat <<XML
<update from="t" status="final" type="$1" version="1"><id>$2</id><title>t</title><issued date="2026-01-01"/>
<severity>$3</severity><references><reference href="http://x" id="$4" type="cve" title="$4"/></references>
<pkglist><collection short="t"><name>t</name>
<package name="$5" version="$6" release="$7" epoch="0" arch="noarch" src="$5.src.rpm"><filename>$5-$6-$7.noarch.rpm</filename></package>
</collection></pkglist></update>
XML
}
{ echo '<?xml version="1.0"?><updates>'
  advisory security PAL-1 Important CVE-2026-0001 baz 1.0 2
  advisory security PAL-2 Critical CVE-2026-0002 heldp 1.0 2
  advisory enhancement PAL-3 None CVE-0 bar 1.1 1
  echo '</updates>'; } > updateinfo.xml
for r in 2026.1 2026.2; do
    createrepo_c -q "$r"
    modifyrepo_c updateinfo.xml "$r/repodata" > /dev/null
done
mkdir -p /etc/yum.repos.d
# Debian's dnf comes with a plugin that makes a repository of its own.
printf '[main]\nenabled=0\n' > /etc/dnf/plugins/local.conf
printf '[sec]\nname=sec\nbaseurl=file://%s/$releasever\nenabled=1\ngpgcheck=0\n' "$PWD" > /etc/yum.repos.d/t.repo
dnf -q -y --releasever=2026.1 install baz-1.0-1 bar-1.0-1 heldp-1.0-1 >&2
cat > p.yaml <<YAML
version: 1
host: { state_dir: $PWD/state, run_dir: $PWD/run }
control: { group: root }
patch:
  window: { days: mon, start: "03:00", length: 1m }
  manager: dnf
  release: "2026.1"
  hold: [{ package: heldp, why: "ABI" }]
YAML
"$agent" -c p.yaml run >&2 &
pid=$!
i=0
until "$agent" -c p.yaml patch plan --json > plan.json 2> plan.err; do
    i=$((i + 1)); [ $i -lt 300 ] || { cat plan.err >&2; exit 1; }; sleep 0.2
done
# There is no systemd here to start a run: it is carried on by hand, as after a power cut.
"$agent" -c p.yaml patch run --now --no-wait > /dev/null 2>&1 || true
id=$(sed 's/.*"id":"\([^"]*\)".*/\1/' state/patch/run.json)
kill $pid; wait $pid || true
sed -i 's/"phase":"done"/"phase":"lock"/' state/patch/run.json
"$agent" -c p.yaml patch work --run "$id" >&2
rpm -qa --qf '%{NAME} %{VERSION}-%{RELEASE}\n' | sort > installed
"#;

#[test]
fn dnf_goes_to_the_version_that_mends_and_tells_cves_and_keeps_to_its_release() {
    let agent = trees::for_tools().and_then(|_| binary::binary());
    let agent = match agent {
        Ok(agent) => agent,
        Err(why) => return println!("{why}"),
    };
    let dir = tempfile::tempdir().unwrap();
    let binary = dir.path().join("palisade");
    fs::copy(agent, &binary).unwrap();
    let cmd = tools::cmd("sh").unwrap().args(["-c", SCRIPT, "dnf"]).arg(dir.path()).arg(&binary);
    let out = cmd.within(Duration::from_secs(400)).said().unwrap();
    assert!(out.success(), "{}", out.all());
    let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
    let plan: Value = serde_json::from_str(&read("plan.json")).unwrap();
    let baz = &plan["updates"][0];
    // 1.1 is newer and 1.0-2 is what the advisory names.
    assert_eq!((&baz["name"], &baz["to"]), (&"baz".into(), &"1.0-2".into()), "{plan:#}");
    assert_eq!((&baz["severity"], &baz["cves"][0]), (&"HIGH".into(), &"CVE-2026-0001".into()));
    assert_eq!(plan["updates"].as_array().unwrap().len(), 1);
    let held = &plan["kept_back"][0];
    assert_eq!((&held["name"], &held["why"]["reason"]), (&"heldp".into(), &"hold".into()));
    assert_eq!(held["severity"], "CRITICAL");
    assert_eq!(
        (&plan["release"], &plan["verdict"]["verdict"]),
        (&"2026.1".into(), &"non_compliant".into())
    );
    assert_eq!(read("installed"), "bar 1.0-1\nbaz 1.0-2\nheldp 1.0-1\n");
    let run: Value = serde_json::from_str(&read("state/patch/run.json")).unwrap();
    assert_eq!(
        (&run["outcome"]["outcome"], &run["release"]),
        (&"done".into(), &"2026.1".into()),
        "{run:#}"
    );
}
