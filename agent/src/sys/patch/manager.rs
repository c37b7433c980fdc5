//! The package manager that this host has.

use super::{super::children::Children, Apt, Dnf};
use crate::{
    clock::Timestamp,
    patch::{Facts, HostError, ManagerKind, Packages, Said, Settings},
};

/// apt, dnf, or neither.
#[derive(Clone, Debug)]
pub enum Manager {
    /// Debian, Ubuntu.
    Apt(Apt),
    /// Amazon Linux, Fedora and theirs.
    Dnf(Dnf),
    /// Something else.
    Neither,
}

impl Manager {
    /// The one that is here.
    #[must_use]
    pub fn of_this_host(children: &Children, settings: &Settings) -> Self {
        let apt = Apt::is_here() && settings.manager != Some(ManagerKind::Dnf);
        let dnf = Dnf::is_here() && settings.manager != Some(ManagerKind::Apt);
        match (apt, dnf) {
            (true, _) => Self::Apt(Apt::new(children.clone(), settings)),
            (false, true) => Self::Dnf(Dnf::new(children.clone(), settings)),
            (false, false) => Self::Neither,
        }
    }
}

fn neither() -> HostError {
    HostError::new("the host has neither apt-get nor dnf")
}

impl Packages for Manager {
    async fn lock_holder(&mut self) -> Option<String> {
        match self {
            Self::Apt(m) => m.lock_holder().await,
            Self::Dnf(m) => m.lock_holder().await,
            Self::Neither => None,
        }
    }

    async fn refresh(&mut self, now: Timestamp) -> Result<(), HostError> {
        match self {
            Self::Apt(m) => m.refresh(now).await,
            Self::Dnf(m) => m.refresh(now).await,
            Self::Neither => Err(neither()),
        }
    }

    async fn facts(&mut self, excluded: &[String]) -> Result<Facts, HostError> {
        match self {
            Self::Apt(m) => m.facts(excluded).await,
            Self::Dnf(m) => m.facts(excluded).await,
            Self::Neither => Err(neither()),
        }
    }

    async fn repair(&mut self) -> Result<Said, HostError> {
        match self {
            Self::Apt(m) => m.repair().await,
            Self::Dnf(m) => m.repair().await,
            Self::Neither => Err(neither()),
        }
    }

    async fn install(&mut self, excluded: &[String], names: &[String]) -> Result<Said, HostError> {
        match self {
            Self::Apt(m) => m.install(excluded, names).await,
            Self::Dnf(m) => m.install(excluded, names).await,
            Self::Neither => Err(neither()),
        }
    }
}
