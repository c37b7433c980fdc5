//! What AWS published on 2026-08-22: the origin-facing ranges for a first boot without a network.
//!
//! It is replaced by the first good list that is read, and never by one that is older.

use super::model::AddrSet;

/// Publication time (`syncToken`) of the list built in: 2026-08-22T15:17:05Z.
pub(super) const SYNC_TOKEN: u64 = 1_787_411_825;

/// The prefixes of `CLOUDFRONT_ORIGIN_FACING` then.
const PREFIXES: &[&str] = &[
    "3.29.57.0/26",
    "3.172.0.0/17",
    "13.124.199.0/24",
    "15.158.0.0/16",
    "18.68.0.0/16",
    "24.110.128.0/17",
    "52.46.0.0/18",
    "52.82.128.0/23",
    "52.82.134.0/23",
    "54.182.128.0/20",
    "54.182.144.0/21",
    "54.182.154.0/23",
    "54.182.156.0/22",
    "54.182.160.0/21",
    "54.182.172.0/22",
    "54.182.176.0/21",
    "54.182.184.0/22",
    "54.182.188.0/23",
    "54.182.224.0/21",
    "54.182.240.0/21",
    "54.182.248.0/22",
    "54.239.134.0/23",
    "54.239.170.0/23",
    "54.239.204.0/22",
    "54.239.208.0/21",
    "64.252.64.0/18",
    "64.252.128.0/18",
    "70.132.0.0/18",
    "130.176.0.0/18",
    "130.176.64.0/21",
    "130.176.72.0/22",
    "130.176.76.0/24",
    "130.176.78.0/23",
    "130.176.80.0/22",
    "130.176.86.0/23",
    "130.176.88.0/21",
    "130.176.96.0/19",
    "130.176.128.0/21",
    "130.176.136.0/23",
    "130.176.140.0/22",
    "130.176.144.0/20",
    "130.176.160.0/19",
    "130.176.192.0/19",
    "204.246.166.0/24",
    "205.251.218.0/24",
    "2600:9000:1000::/36",
    "2600:9000:5200::/40",
    "2600:9000:6000::/36",
];

/// The list built in. It is empty only if the table above is broken, which a test excludes.
#[must_use]
pub(super) fn origin_facing() -> AddrSet {
    AddrSet::parse(PREFIXES.iter().copied()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole() {
        let set = origin_facing();
        assert_eq!((set.v4.len(), set.v6.len()), (25, 3), "ranges that touch are one");
        assert_eq!(set.v4.addresses(), 343_616);
        assert_eq!(set.prefixes().len(), PREFIXES.len());
    }
}
