use std::path::Path;

use super::*;
use crate::origin::testutil::settings;

fn found(files: &[(&str, &str)]) -> Vec<String> {
    let text: String =
        files.iter().map(|(n, t)| format!("# configuration file {n}:\n{t}\n\n")).collect();
    let show = |f: &SiteFault| match f {
        SiteFault::NotIncluded => "not included".to_owned(),
        SiteFault::Unguarded(p) => format!("unguarded {p}"),
        SiteFault::Leaks(p) => format!("leaks {p}"),
        SiteFault::Uses(p) => format!("uses {p}"),
        SiteFault::Debugs(p) => format!("debugs {p}"),
    };
    faults(&text, &settings(Path::new("/etc/nginx"))).iter().map(show).collect()
}

const OURS: [(&str, &str); 4] = [
    (
        "/etc/nginx/palisade/http.conf",
        "map $http_x_origin_verify $palisade_origin_key { include /etc/nginx/palisade/origin.map; }",
    ),
    ("/etc/nginx/palisade/origin.map", "\"~^Secret0001abcdefghijKLMNOPQRST$\" \"1a2b3c4d 16\";"),
    ("/etc/nginx/palisade/server.conf", "if ($palisade_origin_ok = 0) {\n return 403;\n}"),
    ("/etc/nginx/palisade/strip-proxy.conf", "proxy_set_header X-Origin-Verify \"\";"),
];

fn with(main: &str, site: &str) -> Vec<String> {
    let mut files = vec![("/etc/nginx/nginx.conf", main), ("/etc/nginx/sites-enabled/site", site)];
    files.extend(OURS);
    found(&files)
}

const MAIN: &str =
    "events {}\nhttp {\n  include palisade/http.conf;\n  include /etc/nginx/sites-enabled/*;\n}";

#[test]
fn a_site_that_does_as_it_should_has_no_faults() {
    let site = "server {\n include palisade/server.conf;\n location / {\n  proxy_set_header Host $host;\n  \
        include palisade/strip-proxy.conf;\n  proxy_pass http://app;\n }\n}\nserver { return 444; }\n\
        upstream app { server 127.0.0.1:8000; }";
    assert_eq!(with(MAIN, site), Vec::<String>::new());
}

#[test]
fn a_server_without_the_guard_is_told_by_its_line() {
    let site = "# one\nserver {\n listen 80; # server { }\n root /srv/${name};\n}\n";
    assert_eq!(with(MAIN, site), ["unguarded /etc/nginx/sites-enabled/site:2"]);
}

#[test]
fn own_lines_of_a_location_bring_the_secret_back() {
    let site = "server {\n include palisade/server.conf;\n include palisade/strip-proxy.conf;\n location /a {\n  \
        proxy_pass http://a;\n }\n location /b {\n  proxy_set_header Host 'a;b';\n  proxy_pass http://b;\n }\n \
        location /c {\n  fastcgi_pass unix:/run/c;\n }\n}";
    assert_eq!(
        with(MAIN, site),
        ["leaks /etc/nginx/sites-enabled/site:9", "leaks /etc/nginx/sites-enabled/site:12"]
    );
}

#[test]
fn a_log_with_the_header_or_of_debugging_is_told() {
    let main = "error_log /var/log/nginx/error.log debug;\nhttp {\n include palisade/http.conf;\n log_format x '$http_x_origin_verify';\n}";
    assert_eq!(with(main, ""), ["uses /etc/nginx/nginx.conf:4", "debugs /etc/nginx/nginx.conf:1"]);
}

#[test]
fn a_site_that_does_not_include_the_guard_is_told() {
    assert_eq!(found(&[("/etc/nginx/nginx.conf", "http { }")]), ["not included"]);
}

#[test]
fn patterns_match_as_in_a_shell() {
    for (pattern, path, is) in [
        ("/a/*", "/a/b", true),
        ("/a/*", "/a/b/c", false),
        ("/a/*.conf", "/a/x.conf", true),
        ("/a/*.conf", "/a/x.conf.bak", false),
        ("/a/*-*.conf", "/a/x-y-z.conf", true),
        ("/a/b", "/a/b", true),
        ("/*/b", "/é/b", true),
    ] {
        assert_eq!(matches(pattern, path), is, "{pattern} {path}");
    }
}

#[test]
fn nothing_makes_it_loop_or_dive_without_end() {
    let deep = "a {".repeat(10_000);
    assert!(with(&deep, "").len() <= 1);
    let looping = "http { include /etc/nginx/nginx.conf; include palisade/http.conf; }";
    assert_eq!(with(looping, ""), Vec::<String>::new());
    assert!(with("http { \"open", "'").len() <= 1);
}
