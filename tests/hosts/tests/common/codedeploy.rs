//! Does on a host what the CodeDeploy agent does with a revision: order of events, `files`,
//! `permissions`, hooks with their variables, `runas` and `timeout`, and the rollback, which is a new
//! deployment of the last revision that succeeded. The agent itself is in no registry that tests
//! reach. What this runner does not know it refuses: an appspec.yml is never half understood.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use palisade_hosts::{exec::Cmd, nspawn::Host};
use serde::Deserialize;

/// Where the agent keeps revisions.
const ROOT: &str = "/opt/codedeploy-agent/deployment-root";
/// All scripts of one event together may take this long.
const EVENT_SECONDS: u64 = 3600;
/// What a hook may take if it does not say.
const DEFAULT_SECONDS: u64 = 3600;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AppSpec {
    version: f64,
    os: String,
    files: Vec<Mapping>,
    file_exists_behavior: Option<String>,
    #[serde(default)]
    permissions: Vec<Permission>,
    #[serde(default)]
    hooks: BTreeMap<Event, Vec<Script>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mapping {
    source: String,
    destination: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Permission {
    object: String,
    pattern: String,
    owner: String,
    group: String,
    r#type: Vec<Kind>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    File,
    Directory,
}

impl Kind {
    /// How `find` selects it.
    fn find(&self) -> &'static str {
        match self {
            Self::File => "-type f",
            Self::Directory => "-type d",
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Script {
    location: String,
    timeout: Option<u64>,
    runas: Option<String>,
}

/// What happens in a deployment, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(crate) enum Event {
    /// Runs the scripts of the last revision that succeeded.
    ApplicationStop,
    DownloadBundle,
    BeforeInstall,
    Install,
    AfterInstall,
    ApplicationStart,
    ValidateService,
}

const EVENTS: [Event; 7] = [
    Event::ApplicationStop,
    Event::DownloadBundle,
    Event::BeforeInstall,
    Event::Install,
    Event::AfterInstall,
    Event::ApplicationStart,
    Event::ValidateService,
];

/// A deployment group with one host.
#[derive(Debug)]
pub(crate) struct Group<'a> {
    host: &'a Host,
    name: &'static str,
    deployments: u32,
    last_good: Option<(PathBuf, String)>,
}

/// A deployment under way.
#[derive(Debug)]
pub(crate) struct Deployment {
    pub(crate) id: String,
    revision: PathBuf,
    done: usize,
    /// What the scripts printed.
    pub(crate) log: String,
}

/// Where it failed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failed {
    pub(crate) event: Event,
    pub(crate) script: String,
}

/// What came of a deployment.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) id: String,
    pub(crate) result: Result<(), Failed>,
    pub(crate) log: String,
    /// The deployment that followed because this one failed.
    pub(crate) rollback: Option<Box<Outcome>>,
}

impl<'a> Group<'a> {
    pub(crate) fn new(host: &'a Host, name: &'static str) -> Self {
        Self { host, name, deployments: 0, last_good: None }
    }

    /// Deploys a revision. If it fails and one succeeded before, that one is deployed again.
    pub(crate) fn deploy(&mut self, revision: &Path) -> Outcome {
        let mut outcome = self.deploy_once(revision);
        if outcome.result.is_err()
            && let Some((good, _)) = self.last_good.clone()
        {
            outcome.rollback = Some(Box::new(self.deploy_once(&good)));
        }
        outcome
    }

    fn deploy_once(&mut self, revision: &Path) -> Outcome {
        let mut deployment = self.begin(revision);
        let result = self.go_on(&mut deployment, Event::ValidateService);
        Outcome { id: deployment.id, result, log: deployment.log, rollback: None }
    }

    /// A deployment of which nothing is done yet.
    pub(crate) fn begin(&mut self, revision: &Path) -> Deployment {
        self.deployments += 1;
        let id = format!("d-{}{:05}", self.name.to_uppercase(), self.deployments);
        Deployment { id, revision: revision.to_path_buf(), done: 0, log: String::new() }
    }

    /// Goes on up to and with an event.
    pub(crate) fn go_on(&mut self, deployment: &mut Deployment, to: Event) -> Result<(), Failed> {
        while let Some(&event) = EVENTS.get(deployment.done).filter(|e| **e <= to) {
            deployment.done += 1;
            self.happen(deployment, event)?;
        }
        if deployment.done == EVENTS.len() {
            self.last_good = Some((deployment.revision.clone(), deployment.id.clone()));
        }
        Ok(())
    }

    fn happen(&self, deployment: &mut Deployment, event: Event) -> Result<(), Failed> {
        match event {
            Event::DownloadBundle => self.download(deployment),
            Event::Install => self.install(deployment),
            Event::ApplicationStop => {
                if let Some((revision, id)) = &self.last_good {
                    let archive = self.archive(id);
                    self.hooks(deployment, event, &read(revision), &archive)?;
                }
            }
            Event::BeforeInstall
            | Event::AfterInstall
            | Event::ApplicationStart
            | Event::ValidateService => {
                let archive = self.archive(&deployment.id);
                let spec = read(&deployment.revision);
                self.hooks(deployment, event, &spec, &archive)?;
            }
        }
        Ok(())
    }

    fn archive(&self, id: &str) -> String {
        format!("{ROOT}/{}/{id}/deployment-archive", self.name)
    }

    fn download(&self, deployment: &Deployment) {
        let bundle = tempfile::NamedTempFile::new().unwrap();
        Cmd::new("tar")
            .arg("-C")
            .arg(&deployment.revision)
            .arg("-czf")
            .args([bundle.path().as_os_str(), ".".as_ref()])
            .run()
            .unwrap();
        let archive = self.archive(&deployment.id);
        self.host.copy_in(bundle.path(), "/tmp/bundle.tgz");
        self.host.ok(&format!(
            "mkdir -p {archive} && tar -zxpsf /tmp/bundle.tgz -C {archive} && rm /tmp/bundle.tgz"
        ));
    }

    /// First removes what the deployment before copied, then copies.
    fn install(&self, deployment: &Deployment) {
        let spec = read(&deployment.revision);
        let archive = self.archive(&deployment.id);
        let cleanup = format!("{ROOT}/{}-cleanup", self.name);
        let mut script = format!(
            "set -e\nif [ -e {cleanup} ]; then xargs -d '\\n' rm -f < {cleanup}; fi\n: > {cleanup}\n"
        );
        for Mapping { source, destination } in &spec.files {
            let from = format!("{archive}/{source}");
            if spec.file_exists_behavior.as_deref() != Some("OVERWRITE") {
                writeln!(
                    script,
                    "cd {from}; find . -type f | while read -r f; do \
                     [ ! -e {destination}/$f ] || {{ echo {destination}/$f exists; exit 1; }}; done"
                )
                .unwrap();
            }
            writeln!(
                script,
                "mkdir -p {destination}; cd {from}; cp -a . {destination}/; \
                 find . ! -type d -printf '{destination}/%P\\n' >> {cleanup}"
            )
            .unwrap();
        }
        for p in &spec.permissions {
            assert_eq!(p.pattern, "**", "this runner knows the pattern ** only");
            let types: Vec<_> = p.r#type.iter().map(Kind::find).collect();
            writeln!(
                script,
                "find {} -mindepth 1 \\( {} \\) -exec chown -h {}:{} {{}} +",
                p.object,
                types.join(" -o "),
                p.owner,
                p.group
            )
            .unwrap();
        }
        self.host.ok(&script);
    }

    fn hooks(
        &self,
        deployment: &mut Deployment,
        event: Event,
        spec: &AppSpec,
        archive: &str,
    ) -> Result<(), Failed> {
        for script in spec.hooks.get(&event).into_iter().flatten() {
            let path = format!("{archive}/{}", script.location);
            let seconds = script.timeout.unwrap_or(DEFAULT_SECONDS);
            let mut args = vec![
                format!("LIFECYCLE_EVENT={event:?}"),
                format!("DEPLOYMENT_ID={}", deployment.id),
                "APPLICATION_NAME=site".to_owned(),
                format!("DEPLOYMENT_GROUP_NAME={}", self.name),
                format!("DEPLOYMENT_GROUP_ID=00000000-0000-0000-0000-{:012}", self.name.len()),
                // The agent ends the script's process group by SIGTERM, and waits no further.
                "timeout".to_owned(),
                seconds.to_string(),
            ];
            match &script.runas {
                Some(user) => args.extend(["su", user, "-c", &path].map(str::to_owned)),
                None => args.push(path),
            }
            let cmd = self.host.cmd("env").unwrap().args(&args);
            let said = cmd.within(Duration::from_secs(seconds + 10)).said().unwrap();
            writeln!(deployment.log, "-- {event:?} {}\n{}", script.location, said.all()).unwrap();
            if !said.success() {
                return Err(Failed { event, script: script.location.clone() });
            }
        }
        Ok(())
    }
}

/// Reads a revision's appspec.yml and checks what CodeDeploy checks.
fn read(revision: &Path) -> AppSpec {
    let text = fs::read_to_string(revision.join("appspec.yml")).unwrap();
    let spec: AppSpec = serde_yaml::from_str(&text).unwrap_or_else(|e| panic!("appspec.yml: {e}"));
    assert_eq!((spec.version, spec.os.as_str()), (0.0, "linux"));
    for (event, scripts) in &spec.hooks {
        let seconds: u64 = scripts.iter().map(|s| s.timeout.unwrap_or(DEFAULT_SECONDS)).sum();
        assert!(seconds <= EVENT_SECONDS, "{event:?} takes {seconds} s, more than {EVENT_SECONDS}");
        assert!(
            !matches!(event, Event::DownloadBundle | Event::Install),
            "{event:?} has no scripts"
        );
        for script in scripts {
            let path = revision.join(&script.location);
            assert!(path.is_file(), "{event:?}: {} is not in the revision", script.location);
        }
    }
    spec
}
