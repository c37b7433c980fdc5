//! `plan`, `apply` and `destroy`, from the words of the command line to the last message.

use std::collections::BTreeSet;

use palisade_infra_model::{Estate, Project};

use crate::{
    apply,
    aws::Aws,
    cli::{self, Common, Which},
    consent::Consent,
    destroy,
    failed::{Failed, Outcome},
    find,
    plan::{self, Lives, Planned, What},
    policy::Allowed,
    printer, show,
    unit::{Unit, units},
};
use palisade_cloud::terminal::clean;

/// What all three begin with.
#[derive(Debug)]
struct Deployment {
    order: Vec<String>,
    estate: Estate,
    units: Vec<Unit>,
}

impl Deployment {
    fn load(common: &Common, which: &Which) -> Outcome<Self> {
        let project: Project = find::project(common)?;
        let environment = find::deployed(&project, &which.env, common)?;
        let estate = find::estate(&project, &environment)?;
        let units = units(&project, &estate)?;
        let order = project.stacks.iter().map(|s| s.name.clone()).collect();
        Ok(Self { order, estate, units })
    }

    fn orphans(&self, lives: &Lives) -> Vec<Unit> {
        let (project, env) = (&self.estate.project, &self.estate.env);
        destroy::orphans(&self.units, lives, &self.order, project, env)
    }

    /// What a person is asked about.
    fn place(&self, aws: &Aws) -> String {
        format!("account {}, {} and what is global of it", aws.account, self.estate.region)
    }

    fn where_to(&self, aws: &Aws) -> String {
        let at = if aws.elsewhere { " (not AWS: another endpoint)" } else { "" };
        format!(
            "{} {} in {}, account {}{at}, as {}",
            self.estate.project, self.estate.env, self.estate.region, aws.account, aws.caller
        )
    }
}

/// Positions of the stacks that were asked for; all, if none was.
fn chosen(units: &[Unit], which: &Which) -> Outcome<BTreeSet<usize>> {
    if which.stacks.is_empty() {
        return Ok((0..units.len()).collect());
    }
    let position = |name: &String| {
        units.iter().position(|u| u.name == *name).ok_or_else(|| {
            let known: Vec<&str> = units.iter().map(|u| u.name.as_str()).collect();
            Failed::usage(format!("{} has no stack {name}", which.env)).hint(known.join(", "))
        })
    };
    which.stacks.iter().map(position).collect()
}

/// What may be lost, each word of it checked: a misspelt one must not pass in silence.
fn allowed(words: &[String], units: &[Unit], stacks_too: bool) -> Outcome<Allowed> {
    let allowed = Allowed::new(words);
    let known = |word: &str| match word.split_once('.') {
        Some((stack, logical)) => !logical.is_empty() && units.iter().any(|u| u.name == stack),
        None => stacks_too && units.iter().any(|u| u.name == word),
    };
    if let Some(word) = allowed.unknown(known) {
        let wants = if stacks_too { "STACK or STACK.RESOURCE" } else { "STACK.RESOURCE" };
        return Err(Failed::usage(format!("--allow-data-loss {word}: it wants {wants}")));
    }
    Ok(allowed)
}

pub(crate) async fn plan(common: &Common, args: &cli::Plan, aws_at: &Slot) -> Outcome<()> {
    let deployment = Deployment::load(common, &args.which)?;
    let units = &deployment.units;
    let chosen = chosen(units, &args.which)?;
    let allowed = allowed(&args.allow_data_loss, units, false)?;
    let aws = aws_at.open(common, &deployment.estate).await?;
    printer::note(deployment.where_to(aws));
    let lives = plan::lives(aws).await?;
    let planned = plan::plan(aws, units, &chosen, &lives, &allowed).await?;
    if args.json {
        printer::json(&show::data(units, &planned));
    } else {
        show::lines(units, &planned).into_iter().for_each(printer::line);
    }
    tell_orphans(&deployment.orphans(&lives));
    refused(&planned)
}

pub(crate) async fn apply(common: &Common, args: &cli::Apply, aws_at: &Slot) -> Outcome<()> {
    let deployment = Deployment::load(common, &args.which)?;
    let units = &deployment.units;
    let chosen = chosen(units, &args.which)?;
    let allowed = allowed(&args.allow_data_loss, units, false)?;
    let aws = aws_at.open(common, &deployment.estate).await?;
    printer::note(deployment.where_to(aws));
    // One look for all that follows: apply compares what it finds with what the plan was made of.
    let lives = plan::lives(aws).await?;
    let planned = plan::plan(aws, units, &chosen, &lives, &allowed).await?;
    show::lines(units, &planned).into_iter().for_each(printer::line);
    refused(&planned)?;
    let stuck = planned.iter().filter(|p| matches!(p.what, What::Stuck(_)));
    if let Some(unit) = stuck.filter_map(|p| units.get(p.unit)).next() {
        let live = plan::live_of(&lives, unit).cloned().unwrap_or_default();
        return Err(apply::stuck(&live).during(&unit.name));
    }
    tell_orphans(&deployment.orphans(&lives));
    let consent = &Consent::new(args.yes);
    if planned.iter().any(|p| !p.what.is_nothing()) {
        consent.to(&[], &format!("apply this to {}?", deployment.place(aws)), "yes").await?;
    }
    let run =
        apply::Run { aws, units, planned: &planned, lives: &lives, allowed: &allowed, consent };
    let changed = apply::apply(&run, &chosen).await?;
    printer::line(format_args!("applied: {changed} of {} stacks changed", chosen.len()));
    Ok(())
}

pub(crate) async fn destroy(common: &Common, args: &cli::Destroy, aws_at: &Slot) -> Outcome<()> {
    let deployment = Deployment::load(common, &args.which)?;
    let aws = aws_at.open(common, &deployment.estate).await?;
    printer::note(deployment.where_to(aws));
    let lives = plan::lives(aws).await?;
    let mut units = deployment.units.clone();
    units.extend(deployment.orphans(&lives));
    let chosen = chosen(&units, &args.which)?;
    let allowed = allowed(&args.allow_data_loss, &units, true)?;
    let surveys = destroy::survey(aws, &units, &chosen, &lives).await?;
    if surveys.is_empty() {
        printer::line("nothing to destroy");
        return Ok(());
    }
    for survey in &surveys {
        let Some(unit) = units.get(survey.unit) else { continue };
        printer::line(format_args!(
            "{} in {}: {} resources are deleted",
            unit.full_name,
            unit.region,
            survey.count - survey.kept.len()
        ));
        for (_, name) in &survey.lost {
            printer::line(format_args!("  lost: {}", clean(name)));
        }
        for name in &survey.kept {
            printer::line(format_args!("  kept: {}", clean(name)));
        }
    }
    let unprotect = args.disable_termination_protection;
    if let Some(refused) = destroy::refusal(&units, &surveys, &allowed, unprotect) {
        return Err(refused);
    }
    let place = deployment.place(aws);
    let question = format!("delete this in {place}? Type the environment's name");
    Consent::new(args.yes).to(&[], &question, &args.which.env).await?;
    let run =
        destroy::Run { aws, units: &units, lives: &lives, surveys: &surveys, allowed, unprotect };
    let count = destroy::destroy(&run, &chosen).await?;
    printer::line(format_args!("destroyed: {count} stacks"));
    for survey in surveys.iter().filter(|s| !s.kept.is_empty()) {
        let name = units.get(survey.unit).map(|u| u.name.as_str()).unwrap_or_default();
        printer::line(format_args!("{name} leaves: {}", clean(&survey.kept.join(", "))));
    }
    Ok(())
}

/// The account, once it is open, where an interruption finds it.
#[derive(Debug, Default)]
pub(crate) struct Slot(std::cell::OnceCell<Aws>);

impl Slot {
    async fn open(&self, common: &Common, estate: &Estate) -> Outcome<&Aws> {
        let aws = Aws::open(common, estate).await?;
        Ok(self.0.get_or_init(|| aws))
    }

    /// Pays what is owed.
    pub(crate) async fn settle(&self) {
        if let Some(aws) = self.0.get() {
            aws.settle().await;
        }
    }
}

fn refused(planned: &[Planned]) -> Outcome<()> {
    let refusals: Vec<_> = planned.iter().flat_map(|p| &p.refused).collect();
    match refusals.first() {
        None => Ok(()),
        Some(first) => {
            let all: Vec<String> = refusals.iter().map(ToString::to_string).collect();
            Err(Failed::refused(all.join("\n  also: ")).hint(first.hint()))
        }
    }
}

fn tell_orphans(orphans: &[Unit]) {
    for orphan in orphans {
        printer::note(format_args!(
            "{} in {} is in no list any more: destroy --stack {} deletes it",
            orphan.full_name, orphan.region, orphan.name
        ));
    }
}
