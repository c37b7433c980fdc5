//! Rules of data, D01 to D08: what holds data is encrypted by a key of its class, spoken to over TLS,
//! backed up, kept when its stack goes, and opened by secrets that change. Here is the list.

use super::{
    How, Rule, data_backups, data_buckets, data_keeping, data_keys, data_secrets, data_stores,
};

pub(super) fn rules() -> Vec<Rule> {
    let rule = |id, title, pci, check| Rule { id, title, pci, how: How::Check(check) };
    vec![
        rule(
            "D01",
            "Database clusters are encrypted, logged, kept, backed up, and survive a zone.",
            &["3.5.1", "8.2.1", "10.2.1"],
            data_stores::clusters,
        ),
        rule(
            "D02",
            "Databases take connections over TLS 1.2 or newer only.",
            &["4.2.1", "2.2.7"],
            data_stores::clusters_over_tls,
        ),
        rule(
            "D03",
            "Caches are encrypted on disk and on the way, ask who it is, and survive a zone.",
            &["3.5.1", "4.2.1", "8.3.1"],
            data_stores::caches,
        ),
        rule(
            "D04",
            "Every store has a key of this environment and of its class, which rotates.",
            &["3.5.1", "3.6.1", "3.7.4"],
            data_keys::by_class,
        ),
        rule(
            "D05",
            "Buckets are closed to the public, TLS only, versioned, encrypted, logged; one cannot be erased.",
            &["1.3.1", "3.5.1", "4.2.1", "7.2.1", "10.3.2"],
            data_buckets::closed,
        ),
        rule(
            "D06",
            "A backup plan covers every store, its vault is locked, and restoring is tried.",
            &["10.3.3", "10.5.1", "12.10.1"],
            data_backups::covered,
        ),
        rule(
            "D07",
            "What holds data says what becomes of it, and no secret is written in the open.",
            &["3.2.1", "8.3.2", "8.6.2"],
            data_keeping::said,
        ),
        rule(
            "D08",
            "Secrets change within 90 days, by a function that may do it.",
            &["8.3.9", "8.6.3"],
            data_secrets::rotate,
        ),
    ]
}

#[cfg(test)]
#[path = "data_tests.rs"]
mod tests;
