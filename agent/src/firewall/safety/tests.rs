//! Safe changes with twins of the ports, and a clock that stands still.

use std::{
    num::NonZeroU16,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{sync::watch, task::JoinSet, time};
use tokio_util::sync::CancellationToken;

use super::{
    super::{
        testutil::{MemChanges, MemFeed, MemFiles, MemKernel},
        *,
    },
    ports::FenceAt,
    state::Trial,
    *,
};
use crate::clock::{SetClock, Timestamp};

const MINUTE: Duration = Duration::from_secs(60);

/// Time since boot that goes with the tests' own.
#[derive(Debug)]
struct TestBoot(time::Instant, String);

impl BootClock for TestBoot {
    fn now(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_millis()).unwrap() + 1000
    }
    fn boot_id(&self) -> String {
        self.1.clone()
    }
}

#[derive(Clone, Debug, Default)]
struct TestView(Arc<Mutex<Surroundings>>);

impl View for TestView {
    async fn look(&mut self, asker: Option<i32>) -> Surroundings {
        let mut around = self.0.lock().unwrap().clone();
        around.asked = asker.is_some();
        around.own = around.own.filter(|_| around.asked);
        around
    }
    async fn foreign(&mut self) -> Vec<String> {
        Vec::new()
    }
}

/// Guardians that are noted and do nothing.
#[derive(Clone, Debug, Default)]
struct TestGuardians(Arc<Mutex<Vec<(Guardian, Order)>>>);

impl TestGuardians {
    fn armed(&self) -> Vec<Order> {
        self.0.lock().unwrap().iter().map(|(_, o)| o.clone()).collect()
    }
}

impl Guardians for TestGuardians {
    async fn arm(&mut self, order: &Order, _: Option<OwnedFd>) -> Result<Guardian, SafetyError> {
        let mut all = self.0.lock().unwrap();
        let start_ticks = all.last().map_or(1, |(g, _)| g.start_ticks + 1);
        let guardian = Guardian { pid: 4711, start_ticks };
        all.push((guardian, order.clone()));
        Ok(guardian)
    }
    async fn end(&mut self, guardian: Guardian) {
        self.0.lock().unwrap().retain(|(g, _)| *g != guardian);
    }
}

/// The host over the lives of several agents.
#[derive(Clone, Debug)]
struct World {
    kernel: MemKernel,
    files: MemFiles,
    view: TestView,
    guardians: TestGuardians,
    clock: SetClock,
    born: time::Instant,
    boot: String,
}

struct Life {
    safety: SafetyHandle,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl World {
    fn new() -> Self {
        Self {
            kernel: MemKernel::default(),
            files: MemFiles::default(),
            view: TestView::default(),
            guardians: TestGuardians::default(),
            clock: SetClock::at(Timestamp::from_secs(1_790_000_000)),
            born: time::Instant::now(),
            boot: "a".to_owned(),
        }
    }

    fn boot(&self) -> TestBoot {
        TestBoot(self.born, self.boot.clone())
    }

    async fn start(&self, settings: Settings) -> Life {
        let ports = SafetyPorts {
            view: self.view.clone(),
            guardians: self.guardians.clone(),
            prober: NoProber,
            files: self.files.clone(),
            clock: self.clock.clone(),
            boot: Arc::new(self.boot()),
        };
        let guarded = Safety::open(ports, settings).await;
        let ports = Ports {
            kernel: self.kernel.clone(),
            changes: MemChanges::new().1,
            feed: MemFeed::default(),
            files: self.files.clone(),
            clock: self.clock.clone(),
        };
        let (firewall, task) = new(guarded.settings(), ports);
        let task = task.with_fence(guarded.fence());
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(task.run(stop.clone()));
        let safety = guarded.handle();
        tasks.spawn(guarded.run(firewall.clone(), stop.clone()));
        // Answered once what the file says is judged.
        safety.foreign().await.unwrap();
        firewall.in_force().await.unwrap();
        Life { safety, stop, tasks }
    }

    /// Whether a port is open to an address by what the kernel has.
    fn lets_in(&self, ip: &str) -> bool {
        let Observed::Table(table) = self.kernel.observed() else { return true };
        let ip: std::net::Ipv4Addr = ip.parse().unwrap();
        table.sets.values().any(|s| match s {
            Elements::V4(r) => r.find(ip.into()).is_some(),
            Elements::V6(_)
            | Elements::Timed4(_)
            | Elements::Timed6(_)
            | Elements::Ports(_)
            | Elements::Strange(_) => false,
        })
    }

    /// Somebody is logged in from here, and sshd listens.
    fn login(&self, from: &str, own: bool) {
        let c = Connection {
            local: "192.0.2.1:22".parse().unwrap(),
            remote: format!("{from}:50000").parse().unwrap(),
        };
        let mut around = self.view.0.lock().unwrap();
        around.ssh_ports = [22].into();
        around.connections.push(c);
        around.own = own.then_some(c);
    }
}

impl Life {
    async fn end(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }

    async fn apply(
        &self,
        settings: &Settings,
        confirm: Option<Duration>,
    ) -> Result<Applied, Refused> {
        let request = ApplyRequest {
            settings: settings.clone(),
            confirm,
            force: false,
            asker: Some(1),
            by: "a test".to_owned(),
        };
        self.safety.apply(request).await
    }

    fn kept_back(&self) -> Option<String> {
        self.safety.status().borrow().kept_back.clone().map(|k| k.why)
    }
}

fn name(s: &str) -> SourceName {
    SourceName::try_from(s.to_owned()).unwrap()
}

/// SSH for these, and nothing else.
fn bastion(cidrs: &[&str]) -> Settings {
    Settings {
        ports: vec![PortRule {
            tcp: vec![NonZeroU16::new(22).unwrap()],
            from: vec![name("bastion")],
        }],
        sources: [(
            name("bastion"),
            vec![Source::Cidrs(cidrs.iter().map(|c| c.parse().unwrap()).collect())],
        )]
        .into(),
        guard: Guard { max_address_loss_permille: 50, withdraw_after: MINUTE, max_ranges: 4096 },
        enforce: Enforce::Yes,
        table_owner: TableOwner::Auto,
        guard_published: true,
        metadata_users: None,
        drops: crate::firewall::drops::Settings { group: None, samples: false },
        tests: Vec::new(),
        state_dir: PathBuf::from("/state"),
    }
}

const OLD: &str = "10.0.0.1";
const NEW: &str = "10.0.0.2";

fn old() -> Settings {
    bastion(&["10.0.0.1/32"])
}

fn new_one() -> Settings {
    bastion(&["10.0.0.2/32"])
}

#[tokio::test(start_paused = true)]
async fn a_trial_that_nobody_confirms_is_rolled_back_and_not_tried_again_by_reload_or_restart() {
    let world = World::new();
    let life = world.start(old()).await;
    let applied = life.apply(&new_one(), Some(MINUTE)).await.unwrap();
    assert!(applied.until.is_some() && world.lets_in(NEW) && !world.lets_in(OLD));
    let orders = world.guardians.armed();
    let [order] = orders.as_slice() else { panic!("{orders:?}") };
    assert!(admits(order.old.as_ref(), OLD.parse().unwrap(), 22));
    assert_eq!(life.apply(&old(), None).await, Err(Refused::OnTrial));
    assert_eq!(life.apply(&old(), Some(MINUTE)).await, Err(Refused::OnTrial));

    time::sleep(MINUTE - Duration::from_secs(1)).await;
    assert!(world.lets_in(NEW));
    time::sleep(Duration::from_millis(1600)).await;
    assert!(world.lets_in(OLD) && !world.lets_in(NEW), "rolled back");
    assert!(world.guardians.armed().is_empty());
    assert!(life.kept_back().unwrap().contains("not confirmed in time"));
    assert!(matches!(life.safety.confirm().await, Err(Refused::NoTrial)));

    let again = life.safety.offer(new_one()).await.unwrap();
    assert!(matches!(again, Offer::KeptBack(_)), "{again:?}");
    life.end().await;
    let life = world.start(new_one()).await;
    assert!(world.lets_in(OLD) && !world.lets_in(NEW) && life.kept_back().is_some());

    // Somebody applies it again, and it is forgiven.
    life.apply(&new_one(), None).await.unwrap();
    assert!(world.lets_in(NEW) && life.kept_back().is_none());
    life.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_confirmed_stays_and_what_is_taken_back_goes_at_once() {
    let world = World::new();
    let life = world.start(old()).await;
    life.apply(&new_one(), Some(MINUTE)).await.unwrap();
    life.safety.confirm().await.unwrap();
    time::sleep(3 * MINUTE).await;
    assert!(world.lets_in(NEW) && world.guardians.armed().is_empty());
    assert_eq!(life.safety.settings(), new_one());

    life.apply(&old(), Some(MINUTE)).await.unwrap();
    life.safety.rollback("a test".to_owned()).await.unwrap();
    assert!(world.lets_in(NEW) && !world.lets_in(OLD));
    assert_eq!(life.safety.rollback("a test".to_owned()).await, Err(Refused::NoTrial));
    life.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_trial_outlives_its_agent_for_the_time_that_is_left() {
    let world = World::new();
    let life = world.start(old()).await;
    life.apply(&new_one(), Some(MINUTE)).await.unwrap();
    time::sleep(MINUTE / 2).await;
    life.end().await;
    // The next agent has a guardian of its own, with the same deadline.
    let before = world.guardians.armed();
    let life = world.start(new_one()).await;
    let after = world.guardians.armed();
    assert_eq!((before.len(), after.len()), (1, 1));
    assert_eq!(before[0].until_ms, after[0].until_ms);
    assert_eq!(before[0].old, after[0].old);
    assert!(world.lets_in(NEW) && life.safety.status().borrow().trial.is_some());
    life.safety.confirm().await.unwrap();
    time::sleep(2 * MINUTE).await;
    assert!(world.lets_in(NEW));

    // One whose time is over when the next agent comes was rolled back, and so was one of another boot.
    life.apply(&old(), Some(MINUTE)).await.unwrap();
    life.end().await;
    time::sleep(2 * MINUTE).await;
    let life = world.start(old()).await;
    assert!(world.lets_in(NEW) && !world.lets_in(OLD) && life.kept_back().is_some());
    life.apply(&old(), Some(MINUTE)).await.unwrap();
    life.end().await;
    let world = World { boot: "b".to_owned(), ..world };
    let life = world.start(old()).await;
    assert!(world.lets_in(NEW) && !world.lets_in(OLD));
    life.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_change_that_would_cut_the_callers_login_is_refused_and_by_force_it_is_not() {
    let world = World::new();
    let life = world.start(old()).await;
    world.login(OLD, true);
    let e = life.apply(&new_one(), Some(MINUTE)).await.unwrap_err();
    assert!(e.to_string().contains("your own SSH session"), "{e}");
    assert!(world.lets_in(OLD) && world.guardians.armed().is_empty());
    let plan = life.safety.plan(new_one(), Some(1)).await.unwrap();
    assert!(plan.plan.differs && plan.cut[0].own && plan.cut[0].ssh, "{plan:?}");

    // A reload asks for nobody, so that no login may be cut; the reason is told.
    let offered = life.safety.offer(new_one()).await.unwrap();
    assert!(matches!(&offered, Offer::KeptBack(why) if why.contains("live SSH sessions")));
    assert!(life.kept_back().is_some() && world.lets_in(OLD));
    // Judged again once the login is over, since it was never in force.
    world.view.0.lock().unwrap().connections.clear();
    assert_eq!(life.safety.offer(new_one()).await.unwrap(), Offer::Taken);
    assert!(world.lets_in(NEW) && life.kept_back().is_none());

    world.login(NEW, true);
    let request = ApplyRequest {
        settings: old(),
        confirm: None,
        force: true,
        asker: Some(1),
        by: "a test".to_owned(),
    };
    let applied = life.safety.apply(request).await.unwrap();
    assert!(!applied.proposal.refused.is_empty() && world.lets_in(OLD));
    life.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_file_that_fails_its_own_tests_is_not_put_in_force() {
    let world = World::new();
    let life = world.start(old()).await;
    let test = |from: Caller, expect| PolicyTest { from, to: NonZeroU16::new(22).unwrap(), expect };
    let mut wanted = new_one();
    wanted.tests = vec![
        test(Caller::Source(name("bastion")), Expect::Accept),
        test(Caller::Address(NEW.parse().unwrap()), Expect::Drop),
    ];
    let e = life.apply(&wanted, None).await.unwrap_err();
    assert!(e.to_string().contains("10.0.0.2 is let in"), "{e}");
    assert!(matches!(life.safety.offer(wanted.clone()).await, Ok(Offer::KeptBack(_))));
    assert!(world.lets_in(OLD) && !world.lets_in(NEW));
    wanted.tests.pop();
    let applied = life.apply(&wanted, None).await.unwrap();
    assert!(applied.proposal.tests[0].passed && applied.proposal.not_probed.is_some());
    life.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_was_stopped_over_the_end_of_a_trial_does_not_repair_what_the_guardian_did() {
    let world = World::new();
    let boot: Arc<dyn BootClock> = Arc::new(world.boot());
    let trial = Trial {
        id: "t".to_owned(),
        settings: new_one(),
        until_ms: boot.now() + 1000,
        boot_id: boot.boot_id(),
        by: String::new(),
        guardian: None,
    };
    let (_keep, at) = watch::channel(Some(FenceAt::of(&trial)));
    let fence = Fence { at, clock: Arc::clone(&boot) };
    assert!(!fence.forbids(&new_one()));
    time::advance(Duration::from_secs(1)).await;
    assert!(fence.forbids(&new_one()) && !fence.forbids(&old()));
}

/// What the guardian does with each thing that it may find on disk.
#[tokio::test(start_paused = true)]
async fn a_guardian_puts_back_what_nobody_decided_and_nothing_else() {
    let world = World::new();
    let life = world.start(old()).await;
    life.apply(&new_one(), Some(MINUTE)).await.unwrap();
    let order = world.guardians.armed().remove(0);
    life.end().await;
    let undecided = world.files.all();
    let changed = |tamper: fn(&mut Kept)| {
        let mut kept = decode_kept(&undecided[&order.state]).unwrap();
        tamper(&mut kept);
        encode_kept(&kept).unwrap()
    };
    // Whether the rules before are put back.
    let cases = [
        (Some(changed(|_| {})), true),
        (Some(changed(|k| k.trial = None)), false),
        (Some(b"nonsense".to_vec()), true),
        (None, true),
    ];
    let before = world.kernel.observed();
    for (file, puts_back) in cases {
        world.kernel.tamper(|o| *o = before.clone());
        world.files.tamper(|all| match &file {
            Some(bytes) => drop(all.insert(order.state.clone(), bytes.clone())),
            None => drop(all.remove(&order.state)),
        });
        let mut kernel = world.kernel.clone();
        let boot = world.boot();
        let ended = stand_by(&order, &mut kernel, &world.files, &boot, &world.clock).await;
        assert!(
            boot.now() >= order.until_ms && boot.now() < order.until_ms + 2000
                || !puts_back
                || file != Some(changed(|_| {}))
        );
        assert_eq!(world.lets_in(OLD), puts_back);
        match ended {
            // The next agent finds the rules as they should be, and has nothing to write down.
            Ended::PutBack(Some(entry)) if puts_back => {
                assert_eq!(entry.who, [history::Who::Guardian]);
                assert_eq!(entry.sets[0].plus, ["10.0.0.1/32"]);
            }
            ended => assert!(!puts_back && ended == Ended::NotNeeded, "{ended:?}"),
        }
    }
    world.kernel.refuse(Some("no"));
    let mut kernel = world.kernel.clone();
    let failed = stand_by(&order, &mut kernel, &world.files, &world.boot(), &world.clock).await;
    assert!(matches!(failed, Ended::Failed(why) if why.contains("no")));
}

#[tokio::test(start_paused = true)]
async fn a_guardian_replaces_the_table_when_the_kernel_refuses_anything_less() {
    let world = World::new();
    let life = world.start(old()).await;
    life.apply(&new_one(), Some(MINUTE)).await.unwrap();
    let order = world.guardians.armed().remove(0);
    life.end().await;
    world.kernel.refuse_all_but_new_tables();
    let mut kernel = world.kernel.clone();
    let ended = stand_by(&order, &mut kernel, &world.files, &world.boot(), &world.clock).await;
    assert!(matches!(ended, Ended::PutBack(Some(_))) && world.lets_in(OLD), "{ended:?}");
}

/// A third one, that a reload brought while another was on trial.
fn third() -> Settings {
    bastion(&["10.0.0.3/32"])
}

#[tokio::test(start_paused = true)]
async fn what_a_reload_brought_during_a_trial_is_judged_at_its_end_and_never_later() {
    let world = World::new();
    let life = world.start(old()).await;
    life.apply(&new_one(), Some(MINUTE)).await.unwrap();
    assert!(matches!(life.safety.offer(third()).await.unwrap(), Offer::KeptBack(_)));
    life.safety.confirm().await.unwrap();
    assert!(world.lets_in("10.0.0.3") && life.kept_back().is_none());

    // A later word of the file counts instead of an earlier one.
    life.apply(&new_one(), Some(MINUTE)).await.unwrap();
    assert!(matches!(life.safety.offer(old()).await.unwrap(), Offer::KeptBack(_)));
    assert_eq!(life.safety.offer(new_one()).await.unwrap(), Offer::Same);
    life.safety.rollback("a test".to_owned()).await.unwrap();
    assert!(world.lets_in("10.0.0.3") && !world.lets_in(OLD));

    // Whatever was said before does not come back.
    assert_eq!(life.safety.offer(old()).await.unwrap(), Offer::Taken);
    life.apply(&third(), Some(MINUTE)).await.unwrap();
    time::sleep(2 * MINUTE).await;
    assert!(world.lets_in(OLD) && !world.lets_in(NEW) && !world.lets_in("10.0.0.3"));
    life.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_the_disk_does_not_take_is_not_confirmed_and_is_written_later() {
    let world = World::new();
    let life = world.start(old()).await;
    life.apply(&new_one(), Some(MINUTE)).await.unwrap();
    world.files.set_full(true);
    let e = life.safety.confirm().await.unwrap_err();
    assert!(e.to_string().contains("write /state"), "{e}");
    assert!(life.safety.status().borrow().trial.is_some() && world.guardians.armed().len() == 1);
    world.files.set_full(false);
    life.safety.confirm().await.unwrap();
    assert!(world.lets_in(NEW) && life.safety.status().borrow().trouble.is_none());

    world.files.set_full(true);
    assert_eq!(life.safety.offer(third()).await.unwrap(), Offer::Taken);
    assert!(life.safety.status().borrow().trouble.is_some());
    world.files.set_full(false);
    time::sleep(MINUTE + Duration::from_secs(1)).await;
    assert!(life.safety.status().borrow().trouble.is_none());
    life.end().await;
    let life = world.start(third()).await;
    assert_eq!(life.safety.settings(), third());
    life.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_guardian_that_was_quicker_than_a_confirmation_does_not_have_the_last_word() {
    let world = World::new();
    let life = world.start(old()).await;
    let before = world.kernel.observed();
    life.apply(&new_one(), Some(MINUTE)).await.unwrap();
    world.kernel.tamper(|o| *o = before);
    life.safety.confirm().await.unwrap();
    assert!(world.lets_in(NEW) && !world.lets_in(OLD));
    life.end().await;
}

/// It would take the table away, for want of knowing what was there before.
#[tokio::test(start_paused = true)]
async fn an_agent_that_ends_as_it_takes_a_trial_over_gives_no_order_to_a_guardian() {
    let world = World::new();
    let life = world.start(old()).await;
    life.apply(&new_one(), Some(MINUTE)).await.unwrap();
    life.end().await;
    let ports = SafetyPorts {
        view: world.view.clone(),
        guardians: world.guardians.clone(),
        prober: NoProber,
        files: world.files.clone(),
        clock: world.clock.clone(),
        boot: Arc::new(world.boot()),
    };
    let safety = Safety::open(ports, new_one()).await;
    let ports = Ports {
        kernel: world.kernel.clone(),
        changes: MemChanges::new().1,
        feed: MemFeed::default(),
        files: world.files.clone(),
        clock: world.clock.clone(),
    };
    let (firewall, task) = new(safety.settings(), ports);
    drop(task);
    let stop = CancellationToken::new();
    stop.cancel();
    safety.run(firewall, stop).await;
    assert_eq!(world.guardians.armed(), []);
}
