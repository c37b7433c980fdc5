//! What holds for this run: words of the command line first, then the alias, then the configuration
//! file. Invariant: what is here was checked, and no verb reads the environment for it again.

mod file;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

pub(crate) use palisade_cloud::AwsSettings;
use palisade_types::{
    Span,
    grant::{Only, Reason, Ttl, UserName},
};

use crate::{
    cli::{self, Common},
    failed::{Failed, Outcome},
    targets::Selector,
};

pub(crate) use file::Alias;

/// A grant's life when nobody says another.
const TTL: u32 = 30 * 60;

/// What holds for this run.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) aws: AwsSettings,
    /// Data channels go here instead of where SSM says.
    pub(crate) ssmmessages: Option<String>,
    pub(crate) ttl: Ttl,
    pub(crate) reason: Reason,
    /// As asked for on the command line.
    pub(crate) only: Option<Only>,
    pub(crate) keep: bool,
    via: Option<String>,
    ssh_port: Option<u16>,
    user: Option<UserName>,
    hosts: BTreeMap<String, Alias>,
}

/// A host as it was typed, with what is known of that name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// As typed, without the user.
    pub(crate) name: String,
    /// Whom to log in as, if the command line or a file says so.
    pub(crate) user: Option<UserName>,
    pub(crate) selector: Selector,
    /// Port of its sshd.
    pub(crate) port: Option<u16>,
    /// The bastion on the way.
    pub(crate) via: Option<String>,
    aws: AwsSettings,
}

impl Settings {
    /// Reads the configuration file, if there is one. `home` is the directory of it.
    ///
    /// # Errors
    /// When the file or a word of the command line is wrong.
    pub(crate) fn load(common: &Common, directory: Option<PathBuf>) -> Outcome<Self> {
        let path = common.config.clone().or_else(|| directory.map(|d| d.join("config.toml")));
        let file = match path {
            Some(path) => file::read(&path, common.config.is_some())?,
            None => file::File::default(),
        };
        Self::build(common, file)
    }

    fn build(common: &Common, file: file::File) -> Outcome<Self> {
        let ttl = match common.ttl.as_deref().or(file.ttl.as_deref()) {
            Some(text) => ttl(text)?,
            None => Ttl::try_from(TTL).map_err(|e| Failed::usage(e.to_string()))?,
        };
        let reason = common.reason.as_deref().unwrap_or_default().parse();
        Ok(Self {
            aws: AwsSettings {
                region: common.region.clone().or(file.region),
                profile: common.profile.clone().or(file.profile),
                endpoint: common.endpoint_url.clone(),
            },
            ssmmessages: common.ssmmessages_endpoint.clone(),
            ttl,
            reason: reason.map_err(|e| Failed::usage(format!("--reason: {e}")))?,
            only: common.only.map(|only| match only {
                cli::Only::Shell => Only::Shell,
                cli::Only::Sftp => Only::Sftp,
                cli::Only::Tunnel => Only::Tunnel,
            }),
            keep: common.keep,
            via: common.via.clone(),
            ssh_port: common.ssh_port,
            user: file.user,
            hosts: file.hosts,
        })
    }

    /// Names that the configuration file knows.
    pub(crate) fn aliases(&self) -> impl Iterator<Item = &str> {
        self.hosts.keys().map(String::as_str)
    }

    /// What is known of `[USER@]HOST`.
    ///
    /// # Errors
    /// When it is no host.
    pub(crate) fn place(&self, typed: &str) -> Outcome<Place> {
        let (user, name) = match typed.rsplit_once('@') {
            Some((user, name)) => (Some(user), name),
            None => (None, typed),
        };
        let user = user
            .map(str::parse)
            .transpose()
            .map_err(|e: palisade_types::grant::BadField| Failed::usage(format!("{typed}: {e}")))?;
        let alias = self.hosts.get(name);
        let selector = alias.and_then(|a| a.target.as_deref()).unwrap_or(name).parse();
        let from_alias = |of: fn(&Alias) -> Option<&String>| alias.and_then(of).cloned();
        Ok(Place {
            selector: selector.map_err(|e| Failed::usage(format!("{name}: {e}")))?,
            user: user.or_else(|| alias.and_then(|a| a.user.clone())).or_else(|| self.user.clone()),
            port: self.ssh_port.or_else(|| alias.and_then(|a| a.port)),
            via: self.via.clone().or_else(|| from_alias(|a| a.via.as_ref())),
            aws: AwsSettings {
                region: from_alias(|a| a.region.as_ref()),
                profile: from_alias(|a| a.profile.as_ref()),
                endpoint: None,
            },
            name: name.to_owned(),
        })
    }

    /// The same of a bastion on the way: what the command line says of the host is not said of it.
    ///
    /// # Errors
    /// When it is no host.
    pub(crate) fn bastion(&self, typed: &str) -> Outcome<Place> {
        let place = self.place(typed)?;
        let port = self.hosts.get(&place.name).and_then(|a| a.port);
        Ok(Place { port, via: None, ..place })
    }

    /// Where to ask about this host: the command line, then its alias, then the file.
    pub(crate) fn aws_of(&self, place: &Place, common: &Common) -> AwsSettings {
        let choose = |said: &Option<String>, alias: &Option<String>, general: &Option<String>| {
            said.clone().or_else(|| alias.clone()).or_else(|| general.clone())
        };
        AwsSettings {
            region: choose(&common.region, &place.aws.region, &self.aws.region),
            profile: choose(&common.profile, &place.aws.profile, &self.aws.profile),
            endpoint: self.aws.endpoint.clone(),
        }
    }

    /// Where to ask about all of these words, as one question.
    ///
    /// # Errors
    /// When a word is no host, or two of them are in different places.
    pub(crate) fn aws_of_all(&self, words: &[String], common: &Common) -> Outcome<AwsSettings> {
        let mut of_all = None;
        for word in words {
            let one = self.aws_of(&self.place(word)?, common);
            if of_all.get_or_insert_with(|| one.clone()) != &one {
                return Err(Failed::usage("these targets are in different accounts or regions")
                    .hint("name the hosts of one --profile and --region at a time"));
            }
        }
        Ok(of_all.unwrap_or_else(|| self.aws.clone()))
    }

    /// Where to ask about a host and its bastion. A bastion of which nobody says where it is, is
    /// where its host is.
    ///
    /// # Errors
    /// When the bastion's alias says that it is elsewhere.
    pub(crate) fn aws_of_both(
        &self,
        host: &Place,
        bastion: &Place,
        common: &Common,
    ) -> Outcome<AwsSettings> {
        let aws = self.aws_of(host, common);
        let same = |said: &Option<String>, alias: &Option<String>, here: &Option<String>| {
            said.is_some() || alias.is_none() || alias == here
        };
        if same(&common.region, &bastion.aws.region, &aws.region)
            && same(&common.profile, &bastion.aws.profile, &aws.profile)
        {
            return Ok(aws);
        }
        let text = format!(
            "{} and its bastion {} are in different accounts or regions",
            host.name, bastion.name
        );
        Err(Failed::usage(text).hint("a bastion has to be where its hosts are"))
    }
}

impl Place {
    /// Whom to log in as: as said, else the user of this machine.
    ///
    /// # Errors
    /// When nobody says and the local user's name is no user's name of a host.
    pub(crate) fn user(&self) -> Outcome<UserName> {
        if let Some(user) = &self.user {
            return Ok(user.clone());
        }
        let local = std::env::var("USER").unwrap_or_default();
        local.parse().map_err(|_| {
            Failed::usage(format!("nobody says whom to log in as on {}", self.name))
                .hint("write USER@HOST, or set `user` in the configuration file")
        })
    }
}

/// A grant's life as people write it.
fn ttl(text: &str) -> Outcome<Ttl> {
    let span = duration("--ttl", text)?;
    let seconds = u32::try_from(span.as_secs()).unwrap_or(u32::MAX);
    Ttl::try_from(seconds).map_err(|e| Failed::usage(format!("--ttl {text}: {e}")))
}

/// A length of time as people write it.
///
/// # Errors
/// When it is none.
pub(crate) fn duration(option: &str, text: &str) -> Outcome<Duration> {
    let Span(span) = text.parse().map_err(|e| Failed::usage(format!("{option}: {e}")))?;
    Ok(span)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        region = "eu-central-1"
        user = "deploy"
        ttl = "1h"
        [hosts.db]
        target = "i-0123456789abcdef0"
        user = "admin"
        via = "bastion"
        port = 2222
        profile = "data"
    "#;

    fn settings(common: &Common) -> Settings {
        Settings::build(common, file::parse("f.toml".as_ref(), FILE).unwrap()).unwrap()
    }

    #[test]
    fn the_command_line_wins_over_the_alias_and_the_alias_over_the_file() {
        let plain = settings(&Common::default());
        let db = plain.place("db").unwrap();
        assert_eq!(db.user.as_ref().unwrap().as_str(), "admin");
        assert_eq!((db.port, db.via.as_deref()), (Some(2222), Some("bastion")));
        assert_eq!(db.selector, Selector::Id("i-0123456789abcdef0".into()));
        let aws = plain.aws_of(&db, &Common::default());
        assert_eq!(aws.profile.as_deref(), Some("data"));
        assert_eq!(aws.region.as_deref(), Some("eu-central-1"));
        let web = plain.place("root@web1").unwrap();
        assert_eq!(web.user().unwrap().as_str(), "root");
        assert_eq!((web.port, plain.ttl.seconds()), (None, 3600));

        let common = Common {
            ttl: Some("2m".into()),
            ssh_port: Some(22),
            profile: Some("mine".into()),
            ..Common::default()
        };
        let said = settings(&common);
        let db = said.place("deploy@db").unwrap();
        assert_eq!((db.user().unwrap().as_str(), db.port), ("deploy", Some(22)));
        assert_eq!(said.aws_of(&db, &common).profile.as_deref(), Some("mine"));
        assert_eq!(said.ttl.seconds(), 120);
        assert_eq!(said.bastion("db").unwrap().port, Some(2222));
        assert_eq!(said.bastion("bastion").unwrap().port, None);
    }

    #[test]
    fn hosts_of_different_accounts_are_not_asked_for_together() {
        let plain = settings(&Common::default());
        let of = |common: &Common, words: &[&str]| {
            let words: Vec<_> = words.iter().map(|w| (*w).to_owned()).collect();
            plain.aws_of_all(&words, common)
        };
        let common = Common::default();
        assert_eq!(of(&common, &["db"]).unwrap().profile.as_deref(), Some("data"));
        assert_eq!(of(&common, &["web1", "web2"]).unwrap(), plain.aws);
        let failed = of(&common, &["db", "web1"]).unwrap_err();
        assert_eq!(failed.to_string(), "these targets are in different accounts or regions");
        assert_eq!(failed.kind.code(), 2);
        let said = Common { profile: Some("mine".into()), ..Common::default() };
        assert_eq!(of(&said, &["db", "web1"]).unwrap().profile.as_deref(), Some("mine"));

        let (db, web) = (plain.place("db").unwrap(), plain.place("web1").unwrap());
        let both = |host, bastion| plain.aws_of_both(host, bastion, &common);
        assert_eq!(both(&db, &web).unwrap().profile.as_deref(), Some("data"));
        assert!(both(&db, &db).is_ok());
        assert!(both(&web, &db).is_err());
    }

    #[test]
    fn wrong_words_are_told_before_anything_is_done() {
        for (common, part) in [
            (Common { ttl: Some("9h".into()), ..Common::default() }, "60-28800"),
            (Common { ttl: Some("soon".into()), ..Common::default() }, "--ttl"),
            (Common { reason: Some("it's\n".into()), ..Common::default() }, "--reason"),
        ] {
            let failed = Settings::build(&common, file::File::default()).unwrap_err();
            assert!(failed.to_string().contains(part), "{failed}");
            assert_eq!(failed.kind.code(), 2);
        }
        let settings = settings(&Common::default());
        for bad in ["$(id)@web1", "-oProxyCommand=x@h", "", "deploy@", "a\nb", "tag:=x"] {
            assert!(settings.place(bad).is_err(), "{bad:?}");
        }
    }
}
