//! In which order stacks are worked on: each after all that it needs, independent ones together, and
//! none after one has failed. Pure.

use std::collections::BTreeSet;

/// How far one of them is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Waiting,
    Running,
    Done,
    Failed,
}

/// The order.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    needs: Vec<BTreeSet<usize>>,
    progress: Vec<Progress>,
}

impl Schedule {
    /// Work on the `chosen` of a list with these needs. What is not chosen is not waited for, but what
    /// it needs is: order holds through it.
    pub(crate) fn new(needs: &[Vec<usize>], chosen: &BTreeSet<usize>) -> Self {
        let mut all: Vec<BTreeSet<usize>> = Vec::with_capacity(needs.len());
        for own in needs {
            let mut whole: BTreeSet<usize> = own.iter().copied().collect();
            for need in own {
                whole.extend(all.get(*need).into_iter().flatten());
            }
            all.push(whole);
        }
        let progress = (0..needs.len())
            .map(|i| if chosen.contains(&i) { Progress::Waiting } else { Progress::Done })
            .collect();
        Self { needs: all, progress }
    }

    /// The same the other way round: each after all that need it.
    pub(crate) fn reversed(needs: &[Vec<usize>], chosen: &BTreeSet<usize>) -> Self {
        let forward = Self::new(needs, chosen);
        let mut back = vec![BTreeSet::new(); needs.len()];
        for (i, own) in forward.needs.iter().enumerate() {
            for need in own {
                if let Some(users) = back.get_mut(*need) {
                    users.insert(i);
                }
            }
        }
        Self { needs: back, progress: forward.progress }
    }

    /// One that can be begun, which is begun with this.
    pub(crate) fn begin(&mut self) -> Option<usize> {
        if self.progress.contains(&Progress::Failed) {
            return None;
        }
        let ready = |needs: &BTreeSet<usize>| {
            needs.iter().all(|n| self.progress.get(*n) == Some(&Progress::Done))
        };
        let next = (0..self.progress.len()).find(|i| {
            self.progress.get(*i) == Some(&Progress::Waiting)
                && self.needs.get(*i).is_some_and(ready)
        })?;
        self.set(next, Progress::Running);
        Some(next)
    }

    /// One has ended.
    pub(crate) fn end(&mut self, which: usize, well: bool) {
        self.set(which, if well { Progress::Done } else { Progress::Failed });
    }

    /// Those that were never begun.
    pub(crate) fn left(&self) -> impl Iterator<Item = usize> {
        let waiting = |(i, p): (usize, &Progress)| (*p == Progress::Waiting).then_some(i);
        self.progress.iter().enumerate().filter_map(waiting)
    }

    fn set(&mut self, which: usize, progress: Progress) {
        if let Some(at) = self.progress.get_mut(which) {
            *at = progress;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 0 <- 1 <- 3, 0 <- 2, and 4 alone.
    fn needs() -> Vec<Vec<usize>> {
        vec![vec![], vec![0], vec![0], vec![1], vec![]]
    }

    fn all() -> BTreeSet<usize> {
        (0..5).collect()
    }

    #[test]
    fn independent_stacks_are_begun_together_and_each_waits_for_its_needs() {
        let mut schedule = Schedule::new(&needs(), &all());
        assert_eq!(
            (schedule.begin(), schedule.begin(), schedule.begin()),
            (Some(0), Some(4), None)
        );
        schedule.end(0, true);
        assert_eq!(
            (schedule.begin(), schedule.begin(), schedule.begin()),
            (Some(1), Some(2), None)
        );
        schedule.end(1, true);
        assert_eq!(schedule.begin(), Some(3));
    }

    #[test]
    fn after_a_failure_nothing_new_is_begun_and_the_rest_is_named() {
        let mut schedule = Schedule::new(&needs(), &all());
        assert_eq!((schedule.begin(), schedule.begin()), (Some(0), Some(4)));
        schedule.end(0, false);
        schedule.end(4, true);
        assert_eq!(schedule.begin(), None);
        assert_eq!(schedule.left().collect::<Vec<_>>(), [1, 2, 3]);
    }

    #[test]
    fn deletion_goes_the_other_way() {
        let mut schedule = Schedule::reversed(&needs(), &all());
        let mut order = Vec::new();
        while let Some(next) = schedule.begin() {
            schedule.end(next, true);
            order.push(next);
        }
        assert_eq!(order, [2, 3, 1, 0, 4]);
    }

    #[test]
    fn order_holds_through_a_stack_that_was_not_chosen() {
        let mut schedule = Schedule::new(&needs(), &BTreeSet::from([0, 3]));
        assert_eq!((schedule.begin(), schedule.begin()), (Some(0), None));
        schedule.end(0, true);
        assert_eq!(schedule.begin(), Some(3));
    }
}
