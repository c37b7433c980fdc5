//! Identities and dates of frames. Identities must differ, they need not be secret: one random seed,
//! no system call for each frame.

use std::time::Duration;

use uuid::Uuid;

/// Gives out identities.
#[derive(Clone, Copy, Debug)]
pub struct Ids {
    state: u64,
    fixed: u64,
    wall_ms: u64,
}

impl Ids {
    /// `wall_ms` is the wall clock (milliseconds since 1970) at time zero of the session.
    #[must_use]
    pub fn new(seed: Uuid, wall_ms: u64) -> Self {
        let (fixed, state) = seed.as_u64_pair();
        Self { state, fixed, wall_ms }
    }

    /// The next identity, a version 4 UUID by its bits.
    pub fn next(&mut self) -> Uuid {
        let high = self.random() ^ self.fixed;
        let low = self.random();
        uuid::Builder::from_u128((u128::from(high) << 64) | u128::from(low))
            .with_version(uuid::Version::Random)
            .with_variant(uuid::Variant::RFC4122)
            .into_uuid()
    }

    /// A number without meaning (splitmix64), for identities and for jitter.
    pub fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The date for a frame made at `now`.
    #[must_use]
    pub fn wall_ms(&self, now: Duration) -> u64 {
        self.wall_ms.saturating_add(u64::try_from(now.as_millis()).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn identities_differ_and_are_of_version_4() {
        let mut ids = Ids::new(Uuid::from_u128(5), 0);
        let many: HashSet<_> = (0..10_000).map(|_| ids.next()).collect();
        assert_eq!(many.len(), 10_000);
        assert!(many.iter().all(|id| id.get_version_num() == 4));
    }
}
