use super::*;

const SIMULATION: &str = "\
Reading package lists...
The following NEW packages will be installed:
  ndlib
The following packages have been kept back:
  heldp linux-image-amd64
  other
The following packages will be upgraded:
  baz nd
2 upgraded, 1 newly installed, 0 to remove and 3 not upgraded.
Inst baz [1.0] (1.1 Palisade-Security:stable-security [amd64])
Inst ndlib (1.0 Palisade-Security:stable-security, Other:x [amd64])
Inst nd [1.0] (1:1.1~rc1 Palisade-Security:stable-security [amd64]) []
Conf baz (1.1 Palisade-Security:stable-security [amd64])
";

#[test]
fn a_simulation_names_what_would_be_installed_and_what_is_kept_back() {
    let s = parse_simulation(SIMULATION);
    let got: Vec<_> =
        s.updates.iter().map(|u| (u.name.as_str(), u.from.as_deref(), u.to.as_str())).collect();
    let want =
        [("baz", Some("1.0"), "1.1"), ("ndlib", None, "1.0"), ("nd", Some("1.0"), "1:1.1~rc1")];
    assert_eq!(got, want);
    assert_eq!(s.updates[1].origin, "Palisade-Security:stable-security, Other:x");
    assert_eq!(s.kept_back, ["heldp", "linux-image-amd64", "other"]);
}

#[test]
fn an_obstacle_is_an_unmet_dependency_or_a_removal() {
    let unmet = "The following packages have unmet dependencies:\n nd : Depends: ndlib but it is not \
                 installable\nE: Unable to correct problems, you have held broken packages.\n";
    assert_eq!(parse_obstacle(unmet).unwrap(), "nd : Depends: ndlib but it is not installable");
    let removal = "The following packages will be REMOVED:\n  old1 old2\nThe following NEW ...\n";
    assert_eq!(parse_obstacle(removal).unwrap(), "would remove old1 old2");
    assert_eq!(parse_obstacle("Inst nd [1.0] (1.1 x [amd64])\n"), None);
}

#[test]
fn candidates_are_read_with_none_as_nothing() {
    let text = "baz:\n  Installed: 1.0\n  Candidate: 1.1\n  Version table:\n     1.2 50\nq:\n  Installed: (none)\n  Candidate: (none)\n";
    assert_eq!(
        parse_candidates(text),
        [
            ("baz".to_owned(), Some("1.0".to_owned()), Some("1.1".to_owned())),
            ("q".to_owned(), None, None)
        ]
    );
}

#[test]
fn an_error_of_a_package_is_told_once_by_its_name() {
    let status = "pmstatus:brk:40.0:Configuring brk (amd64)\n\
        pmerror:brk:45.4545:installed brk package post-installation script subprocess returned error: exit status 3\n\
        pmerror:/var/cache/apt/archives/foo_1.0_amd64.deb:10.0:trying to overwrite /x\n\
        pmerror:brk:50:again\n";
    let errors = parse_errors(status);
    assert_eq!(errors.len(), 2);
    assert_eq!(errors[0].0, "brk");
    assert!(errors[0].1.contains("returned error: exit status 3"));
    assert_eq!(errors[1], ("foo".to_owned(), "trying to overwrite /x".to_owned()));
}

#[test]
fn a_held_lock_names_its_holder_and_another_error_is_no_lock() {
    let apt =
        "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 4242 (apt-get)\n";
    assert_eq!(parse_lock_holder(apt).unwrap(), "process 4242 (apt-get)");
    let dpkg = "dpkg: error: dpkg frontend lock was locked by another process with pid 7\n";
    assert_eq!(parse_lock_holder(dpkg).unwrap(), "another process");
    assert_eq!(
        parse_lock_holder("E: Sub-process /usr/bin/dpkg returned an error code (1)\n"),
        None
    );
}

#[test]
fn excluded_packages_and_labels_become_pins() {
    let text = preferences(Some(&security_labels("ubuntu", "noble")), &["nginx".to_owned()]);
    assert!(text.starts_with("Package: nginx\nPin: version *\nPin-Priority: -1\n\n"));
    assert!(text.contains("Pin: release o=Ubuntu,a=noble-security\nPin-Priority: 600\n"));
    assert!(text.ends_with("Package: *\nPin: origin *\nPin-Priority: 50\n\n"));
    assert_eq!(preferences(None, &[]), "");
}

#[test]
fn what_dpkg_says_of_a_package_is_read_with_its_reason() {
    let text = "Setting up brk (1.1) ...\ndpkg: error processing package brk (--configure):\n installed brk \
        package post-installation script subprocess returned error exit status 3\nErrors were encountered";
    let errors = parse_dpkg_errors(text);
    assert_eq!(errors[0].0, "brk");
    assert!(errors[0].1.ends_with("exit status 3"));
}
