//! The small project of three stacks, against the fake.

use super::{Lab, fake::Fake};

pub(crate) const APP: &str = "small-dev-app";
pub(crate) const NETWORK: &str = "small-dev-network";
pub(crate) const WALL: &str = "small-dev-wall";

/// With nothing made yet.
pub(crate) fn lab() -> (Fake, Lab) {
    let fake = Fake::start();
    let lab = Lab::of_fixture("small", &fake.endpoint);
    (fake, lab)
}

/// With all stacks made.
pub(crate) fn made() -> (Fake, Lab) {
    let (fake, lab) = lab();
    lab.expect(0, &["apply", "dev", "--yes"]);
    fake.forget_calls();
    (fake, lab)
}
