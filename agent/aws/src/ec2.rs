//! Lists that EC2 has: managed prefix lists, interfaces of VPC origins, subnets, load balancers.
//!
//! Four operations of the Query protocol, made and signed by hand: docs/adr/0015. Every question is
//! bounded in pages, bytes, prefixes and time, and one that is not answered in full is not answered:
//! a list is whole or an error.

mod answers;
mod ask;

use std::{sync::Arc, time::Duration};

use palisade_agent::{
    errors::Chain,
    firewall::{Ec2List, Feed, FeedLocation, FetchError, Fetched, LoadBalancer},
};
use reqwest::{Client, redirect::Policy};
use tokio::{
    sync::{Mutex, watch},
    time::{self, Instant},
};

use self::ask::{Asker, Parameters};
use crate::{
    Clients, HostIdentity, Vpc,
    feed_http::{HttpFeed, HttpFeedError, client, host_roots},
};

/// Time for one list, all pages included.
const TOTAL: Duration = Duration::from_secs(60);
/// Instance metadata that did not say which VPC this is is not asked again for so long: where there is
/// none, every question costs seconds.
const ASK_AGAIN: Duration = Duration::from_secs(60);
/// Time to connect.
const CONNECT: Duration = Duration::from_secs(5);
/// The security group that CloudFront makes for its interfaces, one in each VPC with an origin.
const VPC_ORIGIN_GROUP: &str = "CloudFront-VPCOrigins-Service-SG";
/// The tag without which CloudFront may make none.
const VPC_ORIGIN_TAG: (&str, &str) = ("tag:aws.cloudfront.vpcorigin", "enabled");
/// Subnets named in one question.
const SUBNETS_AT_ONCE: usize = 100;

/// Whose EC2 is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The region of the settings; none is the host's own.
    pub region: Option<String>,
    /// Who the host is.
    pub host: HostIdentity,
}

/// EC2 as a place of lists. Clones share connections and what was found out.
#[derive(Clone, Debug)]
pub struct Ec2 {
    http: Client,
    account: watch::Receiver<Option<Account>>,
    found: Arc<Mutex<Option<Arc<Found>>>>,
}

/// What was found out about an account.
#[derive(Debug)]
struct Found {
    account: Account,
    clients: Clients,
    vpc: Mutex<Place>,
}

/// The VPC that the host is in, as far as it is known.
#[derive(Debug)]
enum Place {
    /// Nobody was asked, or nobody knew; not to be asked again before this.
    Unknown(Instant),
    /// A host stays where it is.
    Known(Vpc),
}

impl Found {
    fn new(account: Account, clients: Clients) -> Self {
        Self { account, clients, vpc: Mutex::new(Place::Unknown(Instant::now())) }
    }

    /// The VPC that the host is in.
    async fn vpc(&self) -> Option<Vpc> {
        // Held while the metadata is asked, so that lists that are due together ask once.
        let mut place = self.vpc.lock().await;
        match &*place {
            Place::Known(vpc) => return Some(vpc.clone()),
            Place::Unknown(until) if *until > Instant::now() => return None,
            Place::Unknown(_) => {}
        }
        let said = self.account.host.vpc().await;
        *place = match &said {
            Some(vpc) => Place::Known(vpc.clone()),
            None => Place::Unknown(Instant::now() + ASK_AGAIN),
        };
        said
    }
}

impl Ec2 {
    /// Asks the account that `account` says at the time; none means that nothing is asked.
    ///
    /// # Errors
    /// When no HTTP client can be built.
    pub fn new(account: watch::Receiver<Option<Account>>) -> Result<Self, HttpFeedError> {
        let http = client(host_roots(), CONNECT, Policy::none())?;
        Ok(Self { http, account, found: Arc::default() })
    }

    /// Asks with clients that somebody else made, for this host.
    ///
    /// # Errors
    /// When no HTTP client can be built.
    pub fn with(clients: Clients, host: HostIdentity) -> Result<Self, HttpFeedError> {
        let account = Account { region: None, host };
        let ec2 = Self::new(watch::channel(Some(account.clone())).1)?;
        let found = Arc::new(Found::new(account, clients));
        Ok(Self { found: Arc::new(Mutex::new(Some(found))), ..ec2 })
    }

    async fn found(&self) -> Result<Arc<Found>, FetchError> {
        let account = self.account.borrow().clone();
        let account = account.ok_or_else(|| FetchError::new("there is no aws section"))?;
        // Held while they are looked for, so that lists that are due together look once.
        let mut known = self.found.lock().await;
        if let Some(found) = known.as_ref().filter(|f| f.account == account) {
            return Ok(Arc::clone(found));
        }
        // Its state is large; every reader's would hold it.
        let loaded = Box::pin(Clients::load(account.region.clone(), &account.host)).await;
        let clients = loaded.map_err(|e| {
            let hint = e.hint();
            FetchError::because(format!("ask EC2 ({hint})"), e)
        })?;
        let found = Arc::new(Found::new(account, clients));
        *known = Some(Arc::clone(&found));
        Ok(found)
    }

    async fn read(&self, list: &Ec2List) -> Result<Fetched, FetchError> {
        let found = self.found().await?;
        let asker = Asker::new(&self.http, &found.clients).await?;
        let own = |prefixes| Fetched::Prefixes { prefixes, is_amazons: false };
        match list {
            Ec2List::PrefixList(list) => prefix_list(&asker, list).await,
            Ec2List::VpcOrigins(vpc) => vpc_origins(&asker, &found, vpc.as_deref()).await.map(own),
            Ec2List::Subnets(ids) => networks_of(&asker, ids).await.map(own),
            Ec2List::LoadBalancer(balancer) => load_balancer(&asker, balancer).await.map(own),
        }
    }
}

/// Its entries, found by its name or id.
async fn prefix_list(asker: &Asker<'_>, list: &str) -> Result<Fetched, FetchError> {
    const FIND: &str = "DescribeManagedPrefixLists";
    let mut found = Vec::new();
    let mut find = Parameters::default();
    if list.starts_with("pl-") {
        find.add("PrefixListId.1", list);
    } else {
        find.filter("prefix-list-name", &[list]);
    }
    asker.pages(FIND, &find, 100, |answer| found.extend(answers::lists(answer))).await?;
    let one = match found.as_slice() {
        [one] => one,
        [] => return Err(FetchError::new(format!("EC2 has no prefix list {list} in this region"))),
        [_, _, ..] => {
            let why = format!("EC2 has {} prefix lists {list}: name one by its id", found.len());
            return Err(FetchError::new(why));
        }
    };
    let mut entries = Parameters::default();
    entries.add("PrefixListId", &one.id);
    // Of a list that is being changed, the version that was complete.
    if let Some(version) = &one.version {
        entries.add("TargetVersion", version);
    }
    let mut prefixes = Vec::new();
    let op = "GetManagedPrefixListEntries";
    asker.pages(op, &entries, 100, |answer| prefixes.extend(answers::entries(answer))).await?;
    Ok(Fetched::Prefixes { prefixes, is_amazons: one.owner == "AWS" })
}

/// Addresses of the interfaces that CloudFront made, by the group and by the tag. That there are none
/// is an answer: there is no VPC origin yet.
async fn vpc_origins(
    asker: &Asker<'_>,
    found: &Found,
    vpc: Option<&str>,
) -> Result<Vec<String>, FetchError> {
    let vpc = match vpc {
        Some(vpc) => vpc.to_owned(),
        None => found.vpc().await.map(|v| v.id).ok_or_else(|| {
            FetchError::new(
                "the instance metadata does not say which VPC this host is in: name it by vpc",
            )
        })?,
    };
    let mut all = Vec::new();
    for (name, value) in [("group-name", VPC_ORIGIN_GROUP), VPC_ORIGIN_TAG] {
        let mut which = Parameters::default();
        which.filter("vpc-id", &[&vpc]);
        which.filter(name, &[value]);
        all.extend(interfaces(asker, &which).await?.into_iter().flat_map(|i| i.addresses));
    }
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

/// Addresses of its interfaces, or the networks of the subnets that they are in. Only interfaces that
/// ELB made count: a description is easily written.
async fn load_balancer(
    asker: &Asker<'_>,
    LoadBalancer { name, whole_subnets }: &LoadBalancer,
) -> Result<Vec<String>, FetchError> {
    let description =
        if name.contains('/') { format!("ELB app/{name}") } else { format!("ELB app/{name}/*") };
    let mut which = Parameters::default();
    which.filter("description", &[&description]);
    which.filter("requester-managed", &["true"]);
    let found = interfaces(asker, &which).await?;
    if !whole_subnets {
        return Ok(found.into_iter().flat_map(|i| i.addresses).collect());
    }
    let mut ids: Vec<String> = found.into_iter().filter_map(|i| i.subnet).collect();
    ids.sort_unstable();
    ids.dedup();
    networks_of(asker, &ids).await
}

async fn interfaces(
    asker: &Asker<'_>,
    which: &Parameters,
) -> Result<Vec<answers::Interface>, FetchError> {
    let mut found = Vec::new();
    let op = "DescribeNetworkInterfaces";
    asker.pages(op, which, 1000, |answer| found.extend(answers::interfaces(answer))).await?;
    Ok(found)
}

async fn networks_of(asker: &Asker<'_>, ids: &[String]) -> Result<Vec<String>, FetchError> {
    let mut found = Vec::new();
    // None named would mean all there are.
    for some in ids.chunks(SUBNETS_AT_ONCE) {
        let mut which = Parameters::default();
        let ids: Vec<&str> = some.iter().map(String::as_str).collect();
        which.filter("subnet-id", &ids);
        let mut seen = 0;
        let op = "DescribeSubnets";
        asker
            .pages(op, &which, 1000, |answer| {
                let subnets = answers::subnets(answer);
                seen += subnets.len();
                found.extend(subnets.into_iter().flatten());
            })
            .await?;
        if seen != some.len() {
            let why = format!("EC2 has {seen} of the {} subnets {}", some.len(), some.join(", "));
            return Err(FetchError::new(why));
        }
    }
    Ok(found)
}

impl Feed for Ec2 {
    async fn fetch(&self, location: &FeedLocation, _: Option<&str>) -> Result<Fetched, FetchError> {
        let FeedLocation::Ec2(list) = location else {
            return Err(FetchError::new("this is no list of EC2"));
        };
        let late = || Err(FetchError::new(format!("no list within {TOTAL:?}")));
        time::timeout(TOTAL, self.read(list)).await.unwrap_or_else(|_| late())
    }

    async fn own_networks(&self) -> Vec<String> {
        if self.account.borrow().is_none() {
            return Vec::new();
        }
        match self.found().await {
            Ok(found) => found.vpc().await.map(|v| v.networks).unwrap_or_default(),
            Err(e) => {
                tracing::debug!(error = %Chain(&e), "the host's own networks are not known");
                Vec::new()
            }
        }
    }
}

/// All lists that are in no file: by URL, and of EC2.
#[derive(Clone, Debug)]
pub struct RemoteLists {
    http: HttpFeed,
    ec2: Ec2,
}

impl RemoteLists {
    /// Reads URLs through the one and asks the other.
    #[must_use]
    pub fn new(http: HttpFeed, ec2: Ec2) -> Self {
        Self { http, ec2 }
    }
}

impl Feed for RemoteLists {
    async fn fetch(
        &self,
        location: &FeedLocation,
        tag: Option<&str>,
    ) -> Result<Fetched, FetchError> {
        match location {
            FeedLocation::Url(_) | FeedLocation::File(_) => self.http.fetch(location, tag).await,
            FeedLocation::Ec2(_) => self.ec2.fetch(location, tag).await,
        }
    }

    async fn own_networks(&self) -> Vec<String> {
        self.ec2.own_networks().await
    }
}
