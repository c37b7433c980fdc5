//! Single edits at random. The seed is fixed, so a run is the same everywhere; what survives is printed.
//!
//! An edit counts only if it changes what some variant of the environments is: one in a branch that none
//! of them takes is no fault of anybody's.

use std::collections::BTreeMap;

use palisade_infra_model::{Estate, rules};

use super::{
    operators,
    sources::project,
    variants::{VARIANTS, same},
};

const SAMPLES: usize = 300;
/// Least share that must be found, of 100.
const LEAST: usize = 95;

/// Numbers without a pattern that matters here (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(n).unwrap()).unwrap()
    }
}

enum Fate {
    Killed,
    Survived,
    /// Nothing changed anywhere.
    Idle,
}

fn fate(candidate: &operators::Candidate, baselines: &[Estate]) -> Fate {
    let mut mutant = project().clone();
    let change = &candidate.change;
    assert!(mutant.edit(&change.file, &change.path, change.edit.clone()), "{}", candidate.at);
    let mut fate = Fate::Idle;
    let template = project().template(&change.file);
    let uses = |e: &Estate| e.stacks.iter().any(|s| Some(s.template) == template);
    for (variant, baseline) in VARIANTS.iter().zip(baselines).filter(|(_, b)| uses(b)) {
        let Ok(estate) = variant.render(&mutant) else { return Fate::Killed };
        if same(&estate, baseline) {
            continue;
        }
        let base = rules::check(project(), baseline).len();
        if rules::check(&mutant, &estate).len() != base {
            return Fate::Killed;
        }
        fate = Fate::Survived;
    }
    fate
}

#[test]
fn of_single_edits_at_random_nearly_all_are_found() {
    let mut candidates = operators::all(project());
    let baselines: Vec<_> =
        VARIANTS.iter().map(|v| v.render(project()).unwrap_or_else(|e| panic!("{e}"))).collect();
    for baseline in &baselines {
        let found = rules::check(project(), baseline);
        assert!(found.is_empty(), "not even the sources are clean: {found:#?}");
    }
    let mut numbers = Numbers(0x5eed_0f9a_115a_de01);
    let mut survivors = Vec::new();
    let mut of: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    let mut tried = 0;
    while tried < SAMPLES && !candidates.is_empty() {
        let candidate = candidates.swap_remove(numbers.below(candidates.len()));
        let count = of.entry(candidate.operator).or_default();
        match fate(&candidate, &baselines) {
            Fate::Idle => continue,
            Fate::Killed => count.0 += 1,
            Fate::Survived => {
                let path = &candidate.change.path;
                survivors.push(format!("{}: {}: {path}", candidate.at, candidate.operator));
            }
        }
        count.1 += 1;
        tried += 1;
    }
    for (operator, (killed, all)) in &of {
        println!("{operator}: {killed} of {all}");
    }
    survivors.sort();
    let killed = tried - survivors.len();
    let all = survivors.join("\n");
    println!("{killed} of {tried} found; {} survive:\n{all}", survivors.len());
    assert!(tried > 0 && killed * 100 >= tried * LEAST, "{killed} of {tried}:\n{all}");
}
