use std::{path::Path, time::Duration};

use crate::{
    config::{Settings, check_texts},
    origin::{self, Location, Reload},
};

fn check(section: &str) -> Result<Settings, Vec<String>> {
    let text = format!(
        "version: 1\nhost: {{ state_dir: /tmp/s }}\naws: {{ region: auto }}\n\
         firewall:\n  ports: [{{ tcp: 443, from: cloudfront }}]\n  sources: {{ cloudfront: {{ feed: ip-ranges }} }}\n\
         origin_guard:\n{section}\n"
    );
    check_texts(vec![("palisade.yaml".into(), text)].into())
        .map_err(|m| m.all().iter().map(ToString::to_string).collect())
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn guard(section: &str) -> origin::Settings {
    check(section).unwrap().origin.unwrap()
}

fn mistakes(section: &str) -> String {
    check(section).unwrap_err().join("\n")
}

#[test]
fn a_secret_is_all_that_must_be_said() {
    let s = guard("  secret: { ssm_parameter: /palisade/prod/origin-secret }");
    assert_eq!(s.header.as_str(), "X-Origin-Verify");
    assert_eq!(s.source, Location::SsmParameter("/palisade/prod/origin-secret".to_owned()));
    assert_eq!((s.every, s.leave.unused_for), (Duration::from_secs(60), Duration::from_secs(600)));
    assert_eq!(s.nginx.map, Path::new("/etc/nginx/palisade/origin.map"));
    assert_eq!(s.nginx.reload, Reload::After(Duration::from_secs(30)));
    assert_eq!((s.health, s.real_ip), (None, None));
    assert_eq!(s.state_dir, Path::new("/tmp/s/origin"));
    let file = guard("  secret: { file: /etc/palisade/origin-secret }");
    assert_eq!(file.every, Duration::from_secs(5));
}

#[test]
fn every_key_is_taken() {
    let s = guard(
        "  header: X-Mine\n  secret: { secrets_manager: palisade/prod/origin-secret }\n  every: 2m\n\
         \x20 drop_unused_after: 20m\n  drop_after: 2h\n\
         \x20 nginx: { map: /srv/n/keys.map, reload: true, reload_interval: 1m, program: /opt/nginx, config: /srv/n/nginx.conf, pid: /srv/n/pid, group: nginx, hits: /srv/n/hits }\n\
         \x20 health: { paths: [/health, /live], from: [10.20.0.0/16] }\n\
         \x20 real_ip: { from: [cloudfront], trusted: [10.20.0.0/16, \"fd00::/8\"] }",
    );
    assert_eq!(s.header.as_str(), "X-Mine");
    assert_eq!(s.source, Location::SecretsManager("palisade/prod/origin-secret".to_owned()));
    let times = (s.every, s.leave.unused_for, s.leave.at_most);
    assert_eq!(times, (secs(120), secs(1200), secs(7200)));
    assert_eq!(s.nginx.reload, Reload::After(Duration::from_secs(60)));
    assert_eq!(s.nginx.config.as_deref(), Some(Path::new("/srv/n/nginx.conf")));
    assert_eq!(
        (s.nginx.group.as_deref(), s.nginx.pid.to_str()),
        (Some("nginx"), Some("/srv/n/pid"))
    );
    assert_eq!(s.health.unwrap().paths.len(), 2);
    let real_ip = s.real_ip.unwrap();
    assert_eq!((real_ip.sources, real_ip.trusted.len()), (vec!["cloudfront".to_owned()], 2));
    let off = guard("  secret: { file: /s }\n  nginx: { reload: false }");
    assert_eq!(off.nginx.reload, Reload::Never);
}

#[test]
fn what_would_let_everybody_in_or_break_nginx_is_refused() {
    let secret = "  secret: { file: /s }\n";
    for (section, words) in [
        ("  header: X-Mine", "origin_guard.secret: is required"),
        ("  secret: {}", "needs one of"),
        ("  secret: { file: /s, ssm_parameter: /p }", "only one of"),
        ("  secret: { value: abcdefghijklmnopqrst }", "unknown key"),
        ("  secret: { file: s }", "absolute path"),
        ("  secret: { ssm_parameter: \"/p q\" }", "name or an ARN"),
        ("  secret: { file: /s }\n  header: Cookie", "do not send anyway"),
        ("  secret: { file: /s }\n  header: X_Origin", "letters, digits and hyphens"),
        (
            "  secret: { file: /s }\n  health: { paths: [/], from: [0.0.0.0/0] }",
            "too much of the internet",
        ),
        (
            "  secret: { file: /s }\n  health: { paths: [\"/.*\"], from: [10.0.0.0/8] }",
            "exact path",
        ),
        ("  secret: { file: /s }\n  health: { paths: [/health] }", "health.from: is required"),
        ("  secret: { file: /s }\n  real_ip: { from: [cloudfrnt] }", "did you mean cloudfront?"),
        ("  secret: { file: /s }\n  real_ip: { trusted: [10.0.0.1/8] }", "without host bits"),
        ("  secret: { file: /s }\n  real_ip: {}", "needs from"),
        ("  secret: { file: /s }\n  nginx: { map: /origin.map }", "directory of its own"),
        ("  secret: { file: /s }\n  nginx: { map: /a/http.conf }", "another file of the guard"),
        ("  secret: { file: /s }\n  nginx: { map: \"/a/$b/o.map\" }", "as it is written"),
        ("  secret: { file: /s }\n  nginx: { hits: \"/a b\" }", "as it is written"),
        ("  secret: { file: /s }\n  drop_after: 5m", "less than drop_unused_after"),
        ("  secret: { file: /s }\n  every: 0s", "must be"),
    ] {
        let got = mistakes(section);
        assert!(got.contains(words), "{section}\n{got}");
    }
    assert!(check(secret).is_ok());
}

#[test]
fn a_secret_in_aws_needs_aws() {
    let text = "version: 1\norigin_guard: { secret: { secrets_manager: a } }\n";
    let got = check_texts(vec![("palisade.yaml".into(), text.to_owned())].into()).unwrap_err();
    assert!(got.all()[0].to_string().contains("needs the section aws"), "{got:?}");
}
