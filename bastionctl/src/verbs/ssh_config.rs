//! `ssh-config`: settings with which any ssh goes through `proxy`.

use std::path::Path;

use super::proxy::places;
use crate::{
    cli::{self, Common},
    failed::{Failed, Outcome},
    keeper::Places,
    program,
    run::Run,
    settings::Place,
    ssh_files::is_plain_name,
    targets::Selector,
};

pub(crate) fn ssh_config(run: &Run, args: cli::SshConfig) -> Outcome<u8> {
    let places = places()?;
    let program = program::myself().map_err(|e| Failed::because("find this program", &e))?;
    let named = !args.hosts.is_empty();
    let hosts: Vec<String> =
        if named { args.hosts } else { run.settings.aliases().map(str::to_owned).collect() };
    let options = options(&run.common)?;
    let mut out = String::from(
        "# Made by `bastionctl ssh-config`. Each login gets a short-lived grant; many share one.\n",
    );
    for name in &hosts {
        let place = run.settings.place(name)?;
        if !is_plain_name(&place.name) {
            return Err(Failed::usage(format!("{}: ssh takes no such name", place.name))
                .hint("give it an alias in the configuration file"));
        }
        out.push_str(&block(&place, &place.name, &places, &program, &options));
    }
    if !named {
        let any = run.settings.place("any")?;
        out.push_str(&block(&any, "i-* mi-*", &places, &program, &options));
    }
    run.printer.line(out.trim_end());
    Ok(0)
}

/// Options of this run that the later runs need too.
fn options(common: &Common) -> Outcome<String> {
    let pairs = [
        ("--config", common.config.as_ref().map(|p| p.display().to_string())),
        ("--profile", common.profile.clone()),
        ("--region", common.region.clone()),
        ("--endpoint-url", common.endpoint_url.clone()),
        ("--ssmmessages-endpoint", common.ssmmessages_endpoint.clone()),
        ("--ttl", common.ttl.clone()),
        ("--only", common.only.and_then(word)),
        ("--reason", common.reason.clone()),
    ];
    let mut out = String::new();
    for (option, value) in pairs {
        let Some(value) = value else { continue };
        out.push_str(&format!(" {option} {}", quoted(&value)?));
    }
    Ok(out)
}

/// An option's value as it is typed.
fn word(value: impl clap::ValueEnum) -> Option<String> {
    value.to_possible_value().map(|v| v.get_name().to_owned())
}

/// A word for the shell to which ssh gives a ProxyCommand; `%` means something to ssh.
fn quoted(word: &str) -> Outcome<String> {
    if word.contains('\n') {
        return Err(Failed::usage(format!("{word:?} cannot stand in an ssh_config")));
    }
    let word = shlex::try_quote(word).map_err(|e| Failed::usage(format!("{word:?}: {e}")))?;
    Ok(word.replace('%', "%%"))
}

fn block(place: &Place, pattern: &str, places: &Places, program: &Path, options: &str) -> String {
    let mut out = format!("\nHost {pattern}\n");
    let mut line = |key: &str, value: &str| out.push_str(&format!("  {key} {value}\n"));
    if let Some(user) = &place.user {
        line("User", user.as_str());
    }
    if let Some(via) = &place.via {
        // Behind a bastion nothing is granted on this way: the user's own keys are used there. ssh
        // has to be told an address; only `bastionctl ssh` looks one up.
        let Selector::Name(address) = &place.selector else {
            return format!(
                "\n# {pattern} is behind {via} and has no address here: bastionctl ssh\n"
            );
        };
        line("HostName", address);
        line("ProxyJump", via);
        if let Some(port) = place.port {
            line("Port", &port.to_string());
        }
        return out;
    }
    if let Some(port) = place.port {
        line("Port", &port.to_string());
    }
    let base = places.directory().display().to_string().replace('%', "%%");
    let program = program.display().to_string();
    let program = quoted(&program).unwrap_or(program);
    line("ProxyCommand", &format!("{program} proxy{options} --user %r -- %n %p"));
    line("IdentityAgent", &format!("\"{base}/agents/%r@%n\""));
    line("IdentityFile", "none");
    line("IdentitiesOnly", "no");
    line("PreferredAuthentications", "publickey");
    line("UserKnownHostsFile", &format!("\"{base}/hosts/%n\""));
    line("GlobalKnownHostsFile", "/dev/null");
    // Keys that the host's agent told, and no others.
    line("VerifyHostKeyDNS", "no");
    line("IgnoreUnknown", "KnownHostsCommand");
    line("KnownHostsCommand", "none");
    line("StrictHostKeyChecking", "yes");
    line("UpdateHostKeys", "no");
    line("ForwardAgent", "no");
    line("ServerAliveInterval", "20");
    line("ServerAliveCountMax", "6");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    #[expect(clippy::print_stdout, reason = "a test says why it is skipped")]
    async fn openssh_takes_the_settings_and_puts_user_and_host_in() {
        let temp = tempfile::tempdir().unwrap();
        let settings = crate::settings::Settings::load(&Common::default(), None).unwrap();
        let place = settings.place("deploy@web1").unwrap();
        let only = Some(cli::Only::Sftp);
        let common = Common { profile: Some("a b%".into()), only, ..Common::default() };
        let options = options(&common).unwrap();
        let text =
            block(&place, "web1", &Places::new("/run/x y".as_ref()), "/opt/b".as_ref(), &options);
        let path = temp.path().join("config");
        crate::dirs::write_private(&path, text.as_bytes()).unwrap();
        let args = ["-G", "-F", path.to_str().unwrap(), "web1"];
        let Ok(read) = crate::program::output("ssh", &args, &[]).await else {
            return println!("skipped: ssh is not installed");
        };
        for line in [
            "user deploy",
            "identityagent /run/x y/agents/deploy@web1",
            "userknownhostsfile /run/x y/hosts/web1",
            "stricthostkeychecking true",
            "verifyhostkeydns false",
            "proxycommand /opt/b proxy --profile 'a b%%' --only sftp --user %r -- %n %p",
        ] {
            let bare = line.replace('"', "");
            assert!(read.lines().any(|l| l.replace('"', "") == bare), "{line}: {read}");
        }
    }

    #[test]
    fn a_word_with_a_line_end_is_refused() {
        let common = Common { profile: Some("a\nProxyCommand x".into()), ..Common::default() };
        assert!(options(&common).is_err());
    }
}
