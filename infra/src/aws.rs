//! The account and its regions, opened once, and what of ours is under way there. Invariant: what a run
//! began in the cloud and did not see the end of is in the ledger.

use std::{cell::RefCell, collections::BTreeMap, time::Duration};

use palisade_cloud::{AwsSettings, Cloud, CloudError};
use palisade_infra_model::{Estate, project::GLOBAL_REGION};

use crate::{
    cfn::Cfn,
    cli::Common,
    failed::{Failed, Outcome},
    printer,
};

const TOOL: &str = "palisade-infra";
/// For taking change sets away at the end.
const SETTLE: Duration = Duration::from_secs(10);

/// The account.
#[derive(Debug)]
pub(crate) struct Aws {
    regions: BTreeMap<String, Cfn>,
    pub(crate) account: String,
    /// Who asks.
    pub(crate) caller: String,
    /// It is an emulator or a private endpoint.
    pub(crate) elsewhere: bool,
    ledger: RefCell<Ledger>,
}

#[derive(Debug, Default)]
struct Ledger {
    /// Change sets that wait, by name: region and stack.
    sets: BTreeMap<String, (String, String)>,
    /// Stacks that are being changed: what is done to them.
    busy: BTreeMap<String, String>,
}

impl Aws {
    /// Finds credentials, and whose they are.
    ///
    /// # Errors
    /// When there are none, or the environment is meant for another account.
    pub(crate) async fn open(common: &Common, estate: &Estate) -> Outcome<Self> {
        let settings = AwsSettings {
            region: Some(estate.region.clone()),
            profile: common.profile.clone(),
            endpoint: common.endpoint_url.clone(),
        };
        // Its state is large; every caller's would hold it.
        let cloud = Box::pin(Cloud::open(TOOL, &settings)).await?;
        let caller = cloud.caller().await?;
        let account = caller.split(':').nth(4).unwrap_or_default().to_owned();
        let elsewhere = cloud.is_elsewhere("cloudformation");
        let here = cloud.is_here("cloudformation");
        check_account(&estate.env, &estate.account, &account, here)?;
        let mut regions = BTreeMap::new();
        let used = estate.stacks.iter().map(|s| s.region.as_str());
        for region in used.chain([GLOBAL_REGION, estate.region.as_str()]) {
            regions.entry(region.to_owned()).or_insert_with(|| Cfn::new(cloud.in_region(region)));
        }
        Ok(Self { regions, account, caller, elsewhere, ledger: RefCell::default() })
    }

    /// CloudFormation in a region.
    pub(crate) fn cfn(&self, region: &str) -> Outcome<&Cfn> {
        self.regions.get(region).ok_or_else(|| Failed::plain(format!("no region {region} is open")))
    }

    /// Every region that may have stacks of ours.
    pub(crate) fn regions(&self) -> impl Iterator<Item = &Cfn> {
        self.regions.values()
    }

    /// A change set is there.
    pub(crate) fn made_set(&self, name: &str, region: &str, stack: &str) {
        let at = (region.to_owned(), stack.to_owned());
        self.ledger.borrow_mut().sets.insert(name.to_owned(), at);
    }

    /// It is no longer there, or carried out.
    pub(crate) fn settled_set(&self, name: &str) {
        self.ledger.borrow_mut().sets.remove(name);
    }

    /// A stack is being changed, or was asked to be: said before the request is sent.
    pub(crate) fn is_busy(&self, stack: &str, what: String) {
        self.ledger.borrow_mut().busy.insert(stack.to_owned(), what);
    }

    /// What was to be begun was refused; without an answer nobody knows, and the ledger keeps it.
    pub(crate) fn not_begun(&self, stack: &str, error: &CloudError) {
        if !error.may_have_arrived() {
            self.is_idle(stack);
        }
    }

    /// It no longer is.
    pub(crate) fn is_idle(&self, stack: &str) {
        self.ledger.borrow_mut().busy.remove(stack);
    }

    /// Takes away what only this run wanted, and says what goes on without it.
    pub(crate) async fn settle(&self) {
        let sets = std::mem::take(&mut self.ledger.borrow_mut().sets);
        let work = async {
            for (name, (region, stack)) in sets {
                let Some(cfn) = self.regions.get(&region) else { continue };
                if let Err(e) = cfn.delete_change_set(&stack, &name).await {
                    printer::note(format_args!("{stack}: the change set {name} is left: {e}"));
                }
            }
        };
        if tokio::time::timeout(SETTLE, work).await.is_err() {
            printer::note("change sets are left that were not carried out; they do no harm");
        }
        let busy = std::mem::take(&mut self.ledger.borrow_mut().busy);
        for (stack, what) in busy {
            printer::note(format_args!("{stack}: CloudFormation goes on: {what}"));
        }
    }
}

/// The environment's account is the one that is meant. An emulator has one of its own, and nothing
/// that could be lost; it runs on this machine, for any other endpoint may be a way to AWS.
fn check_account(env: &str, said: &str, found: &str, here: bool) -> Outcome<()> {
    if said == found || here {
        return Ok(());
    }
    Err(Failed::refused(format!(
        "{env} is meant for account {said}, and these credentials belong to account {found}"
    ))
    .hint(format!("give another --profile, or write account: \"{found}\" in params/{env}.yaml")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_account_than_the_environments_is_refused_unless_it_is_an_emulators() {
        assert!(check_account("prod", "1", "1", false).is_ok());
        assert!(check_account("prod", "1", "000000000000", true).is_ok());
        let failed = check_account("prod", "1", "2", false).unwrap_err();
        assert_eq!(failed.kind.code(), 5);
        assert!(failed.to_string().contains("account 2"));
    }
}
