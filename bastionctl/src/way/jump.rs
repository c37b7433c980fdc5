//! A way through a bastion, for a host to which SSM opens no session: a session to the bastion, and
//! from there SSH as ProxyJump does it.
//!
//! On the bastion the grant is a tunnel to the host's sshd and nothing else. On the host itself there
//! are two cases. Where its SSM agent takes commands, it gets a grant too, good from the bastion's
//! address only, and its keys are known from its reply. Where not, nothing can be granted: the user's
//! own keys are used, and ssh checks the host's key as it always does.

use std::net::IpAddr;

use palisade_types::grant::{Only, Source, Target};

use super::{SSH_PORT, Want, Way, ask, myself, new_scratch, plain_name, reach, write_config};
use crate::{
    access,
    cloud::{Cloud, Instance},
    failed::{Failed, Kind, Outcome},
    run::Run,
    settings::Place,
    ssh_files::{Host, Login, Route},
    targets::{self, Selector},
};

/// The bastion's name in ssh's files, which no host can have.
const BASTION: &str = "_bastion";

pub(super) async fn open(run: &Run, place: &Place, via: &str, only: Only) -> Outcome<Way> {
    let bastion = run.settings.bastion(via)?;
    let cloud = Cloud::open(&run.settings.aws_of_both(place, &bastion, &run.common)?).await?;
    let user = place.user()?;
    let bastion_user = bastion.user()?;
    let bastion_id = targets::one(&cloud, &bastion.selector).await?;
    let host = find(&cloud, &place.selector).await?;
    let scratch = new_scratch()?;

    let granted = match &host.instance {
        Some(id) if host.takes_commands => {
            let from = address_of(&cloud, &bastion_id).await?;
            let want = Want {
                tag: "host",
                instance: id,
                user: user.clone(),
                only,
                target: None,
                source: Source::address(from),
            };
            Some(ask(run, &cloud, &scratch, want, access::new_id()?).await?.granted().await?)
        }
        Some(_) | None => None,
    };
    let told = granted.as_ref().map(|g| g.reply.ssh_port);
    let port = place.port.or(told).unwrap_or(SSH_PORT);
    let want = Want {
        tag: "bastion",
        instance: &bastion_id,
        user: bastion_user,
        only: Only::Tunnel,
        target: Some(target(&host.address, port)?),
        source: Source::Session,
    };
    let (at_bastion, carrier) = reach(run, &cloud, &scratch, want, bastion.port).await?;

    let key_name = host.instance.as_deref().unwrap_or(&host.address);
    let name = plain_name(place, key_name);
    let program = myself()?;
    let first = Host {
        name: BASTION,
        user: &at_bastion.user,
        address: &bastion_id,
        port: at_bastion.reply.ssh_port,
        key_name: &bastion_id,
        login: at_bastion.login(),
        route: Route::Socket { program: &program, socket: carrier.path() },
    };
    let last = Host {
        name: &name,
        user: &user,
        address: &host.address,
        port,
        key_name,
        login: granted.as_ref().map_or(Login::Own, |g| g.login()),
        route: Route::Jump(BASTION),
    };
    let config = write_config(&scratch, &[first, last])?;
    if granted.is_none() {
        run.printer.note(format_args!(
            "note: {key_name} takes no grants, so your own keys are used there"
        ));
    }
    let mut fingerprints = at_bastion.fingerprints();
    fingerprints.extend(granted.iter().flat_map(super::Granted::fingerprints));
    let agents = granted.map(|g| g.agent).into_iter().chain([at_bastion.agent]).collect();
    Ok(Way { name, config, carrier, fingerprints, _agents: agents, _scratch: scratch })
}

/// A host behind a bastion.
struct Behind {
    /// Where the bastion finds it.
    address: String,
    /// If EC2 knows it.
    instance: Option<String>,
    /// Its SSM agent is there, so it can be asked for a grant.
    takes_commands: bool,
}

async fn find(cloud: &Cloud, selector: &Selector) -> Outcome<Behind> {
    let filters = match selector {
        Selector::Id(id) => vec![("instance-id".to_owned(), vec![id.clone()])],
        Selector::Tag { key, value } => vec![(format!("tag:{key}"), vec![value.clone()])],
        Selector::Name(name) if name.parse::<IpAddr>().is_ok() || name.contains('.') => {
            let address = name.clone();
            return Ok(Behind { address, instance: None, takes_commands: false });
        }
        Selector::Name(name) => vec![("tag:Name".to_owned(), vec![name.clone()])],
    };
    let found = cloud.instances(&filters).await?;
    let one = only_one(selector, found)?;
    let filter = ("InstanceIds".to_owned(), vec![one.id.clone()]);
    let managed = cloud.managed(&[filter]).await?;
    let takes_commands = managed.iter().any(|m| m.ping_status == "Online");
    let address = one
        .private_ip
        .ok_or_else(|| Failed::plain(format!("{}: EC2 tells no private address of it", one.id)))?;
    Ok(Behind { address, instance: Some(one.id), takes_commands })
}

fn only_one(selector: &Selector, found: Vec<Instance>) -> Outcome<Instance> {
    let total = found.len();
    let mut running = found.into_iter().filter(|i| i.state == "running");
    match (running.next(), running.next()) {
        (Some(one), None) => Ok(one),
        (Some(a), Some(b)) => {
            let text = format!("{selector} is several hosts: {}, {}, ...", a.id, b.id);
            Err(Failed::usage(text).hint("name one of them by its instance id"))
        }
        (None, _) => {
            let text = format!("no running host matches {selector} ({total} are not running)");
            Err(Failed::new(Kind::Unreachable, text)
                .hint("a host that EC2 does not know is named by its address"))
        }
    }
}

async fn address_of(cloud: &Cloud, instance: &str) -> Outcome<IpAddr> {
    let filter = ("instance-id".to_owned(), vec![instance.to_owned()]);
    let found = cloud.instances(&[filter]).await?;
    let address = found.first().and_then(|i| i.private_ip.as_deref()?.parse().ok());
    address.ok_or_else(|| {
        Failed::plain(format!("{instance}: EC2 tells no private address of the bastion"))
    })
}

fn target(address: &str, port: u16) -> Outcome<Target> {
    let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    format!("{host}:{port}").parse().map_err(|e| Failed::usage(format!("{e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(id: &str, state: &str) -> Instance {
        Instance { id: id.into(), name: String::new(), state: state.into(), private_ip: None }
    }

    #[test]
    fn of_several_hosts_the_running_one_is_meant_and_two_running_ones_are_an_error() {
        let selector = Selector::Name("db".into());
        let found = vec![instance("i-1", "terminated"), instance("i-2", "running")];
        assert_eq!(only_one(&selector, found).unwrap().id, "i-2");
        let two = vec![instance("i-1", "running"), instance("i-2", "running")];
        assert!(only_one(&selector, two).is_err());
        let text = only_one(&selector, vec![instance("i-1", "stopped")]).unwrap_err().to_string();
        assert!(text.contains("1 are not running"), "{text}");
    }

    #[test]
    fn an_address_of_either_family_makes_a_target() {
        assert_eq!(target("10.0.0.9", 2222).unwrap().as_str(), "10.0.0.9:2222");
        assert_eq!(target("fd00::9", 22).unwrap().as_str(), "[fd00::9]:22");
        assert!(target("a b", 22).is_err());
    }
}
