//! From what people call a host to an instance id. Invariant: a verb on one host goes on only with
//! exactly one; anything else is told with what was found, and nothing is granted.

use std::{collections::BTreeSet, fmt, str::FromStr};

use crate::{
    cloud::{Cloud, CloudError, ssm::Managed},
    failed::{Failed, Kind, Outcome},
    settings::Settings,
};

/// Matches that are listed in an error.
const LISTED: usize = 10;

/// What a host is looked for by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Selector {
    /// An instance.
    Id(String),
    /// Every instance with this tag.
    Tag { key: String, value: String },
    /// The instance of this Name.
    Name(String),
}

/// Why a text names no host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a host is an instance id, a Name of letters, digits, spaces and _.:/=+@-, or tag:KEY=VALUE"
)]
pub(crate) struct BadSelector;

impl FromStr for Selector {
    type Err = BadSelector;

    fn from_str(s: &str) -> Result<Self, BadSelector> {
        if is_instance_id(s) {
            return Ok(Self::Id(s.to_owned()));
        }
        // What a tag may hold, less what ssh would take for an option.
        let good = |t: &str| {
            (1..=128).contains(&t.chars().count())
                && !t.starts_with('-')
                && t.chars().all(|c| c.is_alphanumeric() || " _.:/=+@-".contains(c))
        };
        match s.strip_prefix("tag:") {
            Some(tag) => match tag.split_once('=') {
                Some((key, value)) if good(key) && good(value) => {
                    Ok(Self::Tag { key: key.to_owned(), value: value.to_owned() })
                }
                Some(_) | None => Err(BadSelector),
            },
            None if good(s) => Ok(Self::Name(s.to_owned())),
            None => Err(BadSelector),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => f.write_str(id),
            Self::Tag { key, value } => write!(f, "tag:{key}={value}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

fn is_instance_id(s: &str) -> bool {
    let hex = |t: &str| (8..=17).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_hexdigit());
    s.strip_prefix("i-").is_some_and(hex) || s.strip_prefix("mi-").is_some_and(hex)
}

impl Selector {
    /// The filter that both EC2 and SSM take for it.
    fn filter(&self) -> Option<(String, Vec<String>)> {
        match self {
            Self::Id(_) => None,
            Self::Tag { key, value } => Some((format!("tag:{key}"), vec![value.clone()])),
            Self::Name(name) => Some(("tag:Name".to_owned(), vec![name.clone()])),
        }
    }
}

/// The one instance of this selector. An id is taken as it is: whether it is there is told by what
/// is done to it, one round trip less.
///
/// # Errors
/// When none or several match, or the one is not running.
pub(crate) async fn one(cloud: &Cloud, selector: &Selector) -> Outcome<String> {
    let Some(filter) = selector.filter() else { return Ok(selector.to_string()) };
    let found = cloud.managed(std::slice::from_ref(&filter)).await?;
    let mut online = found.iter().filter(|m| m.ping_status == "Online");
    match (online.next(), online.next()) {
        (Some(only), None) => Ok(only.instance_id.clone()),
        (Some(_), Some(_)) => {
            let ids: Vec<_> = found.iter().map(describe).collect();
            Err(several(selector, &ids))
        }
        (None, _) => Err(none(cloud, selector, &found, filter).await),
    }
}

/// Hosts of several words, in order and each once.
#[derive(Debug, Default)]
pub(crate) struct Hosts {
    /// Those to which SSM has a line, or of which it will say itself that it has none.
    pub(crate) online: Vec<String>,
    /// Those to which it has none.
    pub(crate) offline: Vec<String>,
}

impl Hosts {
    fn sort_in(&mut self, found: &[Managed], seen: &mut BTreeSet<String>) {
        for one in found {
            if !seen.insert(one.instance_id.clone()) {
                continue;
            }
            let online = one.ping_status == "Online";
            let list = if online { &mut self.online } else { &mut self.offline };
            list.push(one.instance_id.clone());
        }
    }
}

/// Every instance of these words that SSM knows.
///
/// # Errors
/// When a word matches nothing, or nothing that can be reached.
pub(crate) async fn many(cloud: &Cloud, settings: &Settings, words: &[String]) -> Outcome<Hosts> {
    let mut hosts = Hosts::default();
    let mut seen = BTreeSet::new();
    for word in words {
        let selector = settings.place(word)?.selector;
        match selector.filter() {
            None => {
                let id = selector.to_string();
                if seen.insert(id.clone()) {
                    hosts.online.push(id);
                }
            }
            Some(filter) => {
                let found = cloud.managed(std::slice::from_ref(&filter)).await?;
                if found.iter().all(|m| m.ping_status != "Online") {
                    return Err(none(cloud, &selector, &found, filter).await);
                }
                hosts.sort_in(&found, &mut seen);
            }
        }
    }
    Ok(hosts)
}

/// What is wrong with a host to which SSM has no line, as far as AWS tells.
pub(crate) async fn why_unreachable(cloud: &Cloud, id: &str) -> String {
    let filter = [("instance-id".to_owned(), vec![id.to_owned()])];
    let known = cloud.managed(&[("InstanceIds".to_owned(), vec![id.to_owned()])]).await;
    // Its agent may report and yet have lost the line over which sessions are opened.
    let line = match cloud.is_connected(id).await {
        Ok(true) => ", its line for sessions stands again",
        Ok(false) => ", its line for sessions is down",
        Err(_) => "",
    };
    let ping = known.ok().and_then(|k| k.first().map(|m| m.ping_status.clone()));
    let state = match cloud.instances(&filter).await {
        Ok(found) => match found.first() {
            Some(i) => format!("EC2 says that it is {}", i.state),
            None => format!("EC2 does not know it in {}", cloud.region()),
        },
        Err(e) if e.code() == Some("InvalidInstanceID.NotFound") => {
            format!("EC2 does not know it in {}", cloud.region())
        }
        Err(_) => "EC2 was not asked with success".to_owned(),
    };
    match ping {
        Some(ping) => format!("{state}; its SSM agent's state is {ping}{line}"),
        None => format!("{state}; its SSM agent has never reported in {}", cloud.region()),
    }
}

fn describe(managed: &Managed) -> String {
    let name = [&managed.name, &managed.computer_name].into_iter().find(|n| !n.is_empty());
    let name = name.map(|n| format!(" {n}")).unwrap_or_default();
    format!("{}{name} ({})", managed.instance_id, managed.ping_status)
}

fn several(selector: &Selector, found: &[String]) -> Failed {
    let more = found.len().saturating_sub(LISTED);
    let mut list = found.iter().take(LISTED).cloned().collect::<Vec<_>>().join(", ");
    if more > 0 {
        list.push_str(&format!(" and {more} more"));
    }
    Failed::usage(format!("{selector} is {} hosts: {list}", found.len()))
        .hint("name one of them by its instance id")
}

/// Nothing that can be reached: why, as far as EC2 knows.
async fn none(
    cloud: &Cloud,
    selector: &Selector,
    lost: &[Managed],
    filter: (String, Vec<String>),
) -> Failed {
    if !lost.is_empty() {
        let list = lost.iter().take(LISTED).map(describe).collect::<Vec<_>>().join(", ");
        return Failed::new(
            Kind::Unreachable,
            format!("{selector}: SSM has no line to it: {list}"),
        )
        .hint("is it running, and does its SSM agent reach the network? or use --via BASTION");
    }
    let instances = cloud.instances(&[filter]).await;
    of_ec2(selector, cloud.region(), instances)
}

fn of_ec2(
    selector: &Selector,
    region: &str,
    instances: Result<Vec<crate::cloud::Instance>, CloudError>,
) -> Failed {
    let hint = "bastionctl hosts lists what there is; is this the right --region and --profile?";
    match instances {
        Ok(found) if !found.is_empty() => {
            let list = found.iter().take(LISTED).map(|i| format!("{} ({})", i.id, i.state));
            let list = list.collect::<Vec<_>>().join(", ");
            Failed::new(
                Kind::Unreachable,
                format!("{selector}: the host is not known to SSM: {list}"),
            )
            .hint("is it running, and may its role use SSM? or use --via BASTION")
        }
        Ok(_) | Err(_) => {
            Failed::plain(format!("no host matches {selector} in {region}")).hint(hint)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_tags_and_names_are_told_apart_and_the_rest_is_refused() {
        let id = "i-0123456789abcdef0";
        assert_eq!(id.parse(), Ok(Selector::Id(id.into())));
        assert_eq!("mi-0123456789abcdef0".parse(), Ok(Selector::Id("mi-0123456789abcdef0".into())));
        assert_eq!("web 1".parse(), Ok(Selector::Name("web 1".into())));
        let tag = Selector::Tag { key: "Role".into(), value: "web=1".into() };
        assert_eq!("tag:Role=web=1".parse(), Ok(tag));
        for bad in
            ["", "-web", "tag:Role", "tag:=a", "a;b", "a\nb", "$(x)", "a'b", &"x".repeat(129)]
        {
            assert!(bad.parse::<Selector>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn hosts_without_a_line_are_kept_apart_and_each_host_is_there_once() {
        let one = |id: &str, ping: &str| Managed {
            instance_id: id.into(),
            ping_status: ping.into(),
            ..Managed::default()
        };
        let (mut hosts, mut seen) = (Hosts::default(), BTreeSet::new());
        let found = [one("i-1", "Online"), one("i-2", "ConnectionLost"), one("i-3", "Inactive")];
        hosts.sort_in(&found, &mut seen);
        hosts.sort_in(&found[..2], &mut seen);
        assert_eq!(hosts.online, ["i-1"]);
        assert_eq!(hosts.offline, ["i-2", "i-3"]);
    }

    #[test]
    fn several_matches_are_listed_and_a_long_list_is_cut() {
        let selector = Selector::Name("web".into());
        let ids: Vec<_> = (0..12).map(|i| format!("i-{i}")).collect();
        let failed = several(&selector, &ids);
        assert_eq!(failed.kind, Kind::Usage);
        let text = failed.to_string();
        assert!(
            text.starts_with("web is 12 hosts: i-0, ") && text.ends_with("and 2 more"),
            "{text}"
        );
    }

    #[test]
    fn a_stopped_host_is_told_from_one_that_is_not_there() {
        let selector = Selector::Name("web".into());
        let stopped = crate::cloud::Instance {
            id: "i-1".into(),
            name: "web".into(),
            state: "stopped".into(),
            private_ip: None,
        };
        let failed = of_ec2(&selector, "eu-west-1", Ok(vec![stopped]));
        assert!(failed.to_string().contains("i-1 (stopped)"), "{failed}");
        let failed = of_ec2(&selector, "eu-west-1", Ok(Vec::new()));
        assert_eq!(failed.to_string(), "no host matches web in eu-west-1");
    }
}
