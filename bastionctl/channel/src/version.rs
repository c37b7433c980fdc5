//! Versions of agents, and what follows from them. Missing parts count as 0; text that is no version
//! counts as the oldest, for which nothing new is tried.

/// Four numbers, as agents write them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version([u64; 4]);

/// From this version on an agent multiplexes port forwards.
const MUX: Version = Version([3, 0, 196, 0]);
/// Later agents expect no keep-alive of the multiplexer.
const KEEP_ALIVE: Version = Version([3, 1, 1511, 0]);
/// Later agents understand the flag that ends a session.
const TERMINATE: Version = Version([2, 3, 722, 0]);

impl Version {
    /// Reads `3.3.1142.0`.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let mut parts = [0; 4];
        for (i, part) in text.trim().split('.').enumerate() {
            match (parts.get_mut(i), part.parse()) {
                (Some(slot), Ok(number)) => *slot = number,
                (None, Ok(_)) => {}
                (_, Err(_)) => return Self::default(),
            }
        }
        Self(parts)
    }

    /// Whether port forwards are multiplexed.
    #[must_use]
    pub fn has_mux(self) -> bool {
        self > MUX
    }

    /// Whether the multiplexer must send keep-alives, or the agent hangs up after 30 s.
    #[must_use]
    pub fn wants_keep_alive(self) -> bool {
        self <= KEEP_ALIVE
    }

    /// Whether the session can be ended through the channel.
    #[must_use]
    pub fn knows_terminate(self) -> bool {
        self > TERMINATE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boundaries_are_where_agent_and_plugin_put_them() {
        assert!(!Version::read("3.0.196.0").has_mux());
        assert!(Version::read("3.0.197.0").has_mux());
        assert!(Version::read("3.1.1511.0").wants_keep_alive());
        assert!(!Version::read("3.1.1512.0").wants_keep_alive());
        assert!(!Version::read("2.3.722.0").knows_terminate());
        assert!(Version::read("2.3.750.0").knows_terminate());
    }

    #[test]
    fn numbers_are_compared_as_numbers() {
        assert!(Version::read("3.10.0.0") > Version::read("3.9.9.9"));
        assert_eq!(Version::read("3.3"), Version::read("3.3.0.0"));
        assert_eq!(Version::read("latest"), Version::default());
        assert_eq!(Version::read(""), Version::default());
    }
}
