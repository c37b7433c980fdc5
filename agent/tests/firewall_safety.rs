//! Safe changes against the real kernel: what reading the rules says is what packets meet, trying rules
//! changes nothing, and a guardian puts rules back on its own.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "allow-unwrap-in-tests covers test functions, not helpers; figures and skips are printed"
)]

#[path = "firewall_lab/mod.rs"]
#[expect(dead_code, reason = "this test uses a part of it")]
mod lab;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    num::NonZeroU16,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use lab::{Agent, EDGE4, Lab, ORIGIN4, settings};
use palisade_agent::{
    clock::SystemClock,
    firewall::{
        Caller, Expect, PolicyTest, PortRule, Settings, Source, SourceName,
        safety::{Answers, Probe, Prober as _, Safety, SafetyPorts, Verdict},
    },
    sys::{
        boot_clock::KernelBootClock, children::Children, feed_files::DiskFiles,
        guardian::ProcGuardians, scratch::Scratch, sessions::ProcView,
    },
};

fn name(s: &str) -> SourceName {
    SourceName::try_from(s.to_owned()).unwrap()
}

fn port(p: u16) -> NonZeroU16 {
    NonZeroU16::new(p).unwrap()
}

/// The list built in, a bastion, and ports of each.
fn usual(lab: &Lab) -> Settings {
    let mut usual = settings(lab);
    let bastion: Vec<_> = ["10.20.0.8/29", "2001:db8:20::/64"].map(|c| c.parse().unwrap()).into();
    usual.sources.insert(name("bastion"), vec![Source::Cidrs(bastion)]);
    usual.ports = vec![
        PortRule { tcp: vec![port(80), port(443)], from: vec![name("cloudfront")] },
        PortRule { tcp: vec![port(22), port(8443)], from: vec![name("bastion")] },
    ];
    usual
}

/// Numbers that are the same each time.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        // Knuth's, and the better half of its bits.
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// 10,000 addresses and ports: half from all of unicast space, half within and right beside the ranges.
fn pairs(edges: &[IpAddr]) -> Vec<Probe> {
    let mut numbers = Numbers(7);
    let mut all = Vec::new();
    while all.len() < 10_000 {
        let from = match numbers.below(4) {
            0 | 1 => {
                let at = usize::try_from(numbers.below(edges.len() as u64)).unwrap();
                edges[at]
            }
            2 => IpAddr::V4(Ipv4Addr::from(u32::try_from(numbers.next() & 0xffff_ffff).unwrap())),
            _ => {
                let low = u128::from(numbers.next()) << 32 | u128::from(numbers.next());
                IpAddr::V6(Ipv6Addr::from(0x2600_9000_u128 << 96 | low << 48))
            }
        };
        let odd = match from {
            IpAddr::V4(a) => {
                let first = a.octets()[0];
                first == 0 || first == 127 || first >= 224
            }
            IpAddr::V6(_) => false,
        };
        if odd {
            continue;
        }
        let usual = [80, 443, 22, 8443];
        let port = match numbers.below(2) {
            0 => usual[usize::try_from(numbers.below(4)).unwrap()],
            _ => u16::try_from(numbers.below(65_535) + 1).unwrap(),
        };
        all.push(Probe { from, port });
    }
    all
}

/// Case 51.
#[tokio::test]
async fn explain_agrees_with_real_packets_for_ten_thousand_addresses_and_ports() {
    let Some(lab) = Lab::build("xpl") else { return };
    let agent = Agent::start_with(&lab, usual(&lab)).await;
    agent.handle.in_force().await.unwrap();
    let preview = agent.handle.preview(usual(&lab)).await.unwrap();
    let mut edges: Vec<IpAddr> = Vec::new();
    for set in preview.sets.values() {
        for (a, b) in set.v4.iter() {
            edges.extend([a - 1, a, b, b + 1].map(|n| IpAddr::V4(n.into())));
        }
        for (a, b) in set.v6.iter() {
            edges.extend([a - 1, a, b, b + 1].map(|n| IpAddr::V6(n.into())));
        }
    }
    let probes = pairs(&edges);
    let started = tokio::time::Instant::now();
    let Answers { verdicts } =
        Scratch::new(Children::default()).probe(&preview.rules, &probes).await.unwrap();
    let took = started.elapsed();
    let mut wrong = Vec::new();
    let mut let_in = 0;
    for (probe, verdict) in probes.iter().zip(&verdicts) {
        let said = agent.handle.explain(probe.from, Some(probe.port)).await.unwrap();
        let_in += u32::from(said.accepted);
        if said.accepted != (*verdict == Verdict::Accepted) {
            wrong.push(format!("{probe:?} {verdict:?}: {}", said.text));
        }
    }
    println!("{} packets in {took:?}, {let_in} let in", probes.len());
    assert!(wrong.is_empty(), "{} disagree: {:?}", wrong.len(), &wrong[..wrong.len().min(5)]);
    assert!(let_in > 500, "{let_in}");
    agent.stop().await;
}

fn ports() -> SafetyPorts<ProcView, ProcGuardians, Scratch, DiskFiles, SystemClock> {
    SafetyPorts {
        view: ProcView::new(Children::default()),
        guardians: ProcGuardians::new(Children::default()),
        prober: Scratch::new(Children::default()),
        files: DiskFiles,
        clock: SystemClock,
        boot: Arc::new(KernelBootClock),
    }
}

/// Number of transactions that the kernel of the origin has made.
fn generation(lab: &Lab) -> u32 {
    lab.at("origin", || {
        use nix::sys::socket::*;
        use std::os::fd::AsRawFd as _;
        let flags = SockFlag::SOCK_CLOEXEC;
        let protocol = SockProtocol::NetlinkNetFilter;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol).unwrap();
        // NFNL_SUBSYS_NFTABLES, NFT_MSG_GETGEN.
        let mut ask = 20_u32.to_ne_bytes().to_vec();
        ask.extend((10_u16 << 8 | 16).to_ne_bytes());
        ask.extend(1_u16.to_ne_bytes());
        ask.extend([0; 12]);
        send(socket.as_raw_fd(), &ask, MsgFlags::empty()).unwrap();
        let mut answer = [0; 1024];
        recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty()).unwrap();
        // The first attribute is the number, in the network's byte order.
        u32::from_be_bytes(answer[24..28].try_into().unwrap())
    })
}

/// Case 50, and tests of a policy with real packets.
#[tokio::test]
async fn a_plan_with_tests_sends_real_packets_and_changes_nothing_in_the_kernel() {
    let Some(lab) = Lab::build("dry") else { return };
    lab.listen(443);
    let guarded = Safety::open(ports(), usual(&lab)).await;
    let agent = Agent::start_with(&lab, usual(&lab)).await;
    agent.handle.in_force().await.unwrap();
    let mut scope = palisade_agent::task::Scope::new(&Default::default());
    let (safety, stop) = (guarded.handle(), scope.stop());
    scope.spawn("safety", guarded.run(agent.handle.clone(), stop));

    let mut wanted = usual(&lab);
    wanted.sources.remove(&name("bastion"));
    wanted.ports.truncate(1);
    let test = |from, to, expect| PolicyTest { from, to: port(to), expect };
    wanted.tests = vec![
        test(Caller::Source(name("cloudfront")), 443, Expect::Accept),
        test(Caller::Source(name("cloudfront")), 22, Expect::Drop),
        test(Caller::Address("203.0.113.9".parse().unwrap()), 443, Expect::Drop),
        test(Caller::Address("2001:db8:9::9".parse().unwrap()), 22, Expect::Drop),
        // It is not so.
        test(Caller::Address("10.20.0.9".parse().unwrap()), 22, Expect::Accept),
    ];
    let before = (generation(&lab), lab.generation());
    let proposal = safety.plan(wanted.clone(), None).await.unwrap();
    println!("{:#?} {:?}", proposal.tests, proposal.not_probed);
    assert_eq!(proposal.not_probed, None);
    assert!(proposal.plan.differs);
    let passed: Vec<bool> = proposal.tests.iter().map(|t| t.passed).collect();
    assert_eq!(passed, [true, true, true, true, false]);
    assert!(proposal.tests[0].packets > 8);
    assert!(proposal.refused[0].contains("10.20.0.9 is dropped"), "{:?}", proposal.refused);
    assert_eq!((generation(&lab), lab.generation()), before, "the kernel was written to");
    // It does count what is done to it.
    lab.nft("add table inet other");
    assert_ne!(generation(&lab), before.0);
    assert!(lab.connects("edge", EDGE4, ORIGIN4, 443, Duration::from_secs(3)));
    scope.shut_down(Duration::from_secs(5)).await;
    agent.stop().await;
}

/// Rules that an agent before us put in force are there while it is not decided what replaces them.
#[tokio::test]
async fn settings_of_a_broken_note_are_those_of_the_file() {
    let Some(lab) = Lab::build("nte") else { return };
    let wanted = usual(&lab);
    std::fs::create_dir_all(&wanted.state_dir).unwrap();
    let note: PathBuf = wanted.state_dir.join("settings.json");
    palisade_agent::sys::files::write_atomic(&note, b"{\"v\":1", 0o600).unwrap();
    let guarded = Safety::open(ports(), wanted.clone()).await;
    assert_eq!(*guarded.settings().borrow(), wanted);
    let trouble = guarded.handle().status().borrow().trouble.clone().unwrap();
    assert!(trouble.contains("settings.json"), "{trouble}");
}
