//! Names of programs, of their groups and of their processes.
//!
//! A name becomes a file name, a cgroup directory and a part of a log stream, so one rule holds for
//! all three: 1 to 128 printable ASCII characters, none of them a space or one of `: / * " '`, and
//! the first neither `.` nor `-`.

use std::fmt;

use serde::{Deserialize, Serialize};

const MAX_LEN: usize = 128;

/// Why a string cannot be a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "name {0:?} must be 1-{MAX_LEN} printable ASCII characters without space : / * \" ' and not start with . or -"
)]
pub struct BadName(String);

fn is_name(s: &str) -> bool {
    (1..=MAX_LEN).contains(&s.len())
        && !s.starts_with(['.', '-'])
        && s.bytes().all(|b| b.is_ascii_graphic() && !b":/*\"'".contains(&b))
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadName;

            fn try_from(s: String) -> Result<Self, BadName> {
                if is_name(&s) { Ok(Self(s)) } else { Err(BadName(s)) }
            }
        }

        impl std::str::FromStr for $name {
            type Err = BadName;

            fn from_str(s: &str) -> Result<Self, BadName> {
                Self::try_from(s.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(n: $name) -> Self {
                n.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name_type! {
    /// A program as configured: `web`.
    ProgramName
}
name_type! {
    /// Programs that are started and stopped together: `app`. A program on its own is a group too.
    GroupName
}
name_type! {
    /// One running copy of a program: `web`, or `worker_01` where there are several.
    ProcessName
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slash_is_refused_because_the_name_becomes_a_path() {
        for bad in ["a/../b", "", ".hidden", "-f", "a b", "a:b", "café", "x\n"] {
            assert_eq!(ProgramName::try_from(bad.to_owned()), Err(BadName(bad.to_owned())));
        }
    }

    #[test]
    fn supervisors_usual_names_are_taken() {
        for good in ["web", "Web_01", "celery-beat", "app.worker@2"] {
            assert!(good.parse::<ProgramName>().is_ok(), "{good}");
        }
    }
}
