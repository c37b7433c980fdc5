//! A list in the shape of AWS's `ip-ranges.json`, with the real origin-facing ranges of 22 August
//! 2026, so that the agent reads here what it would read from AWS.

use serde_json::{Value, json};

/// `CLOUDFRONT_ORIGIN_FACING` as published at syncToken 1787411825 (2026-08-22).
const RANGES: &str = "\
    130.176.88.0/21 54.239.134.0/23 52.82.134.0/23 130.176.86.0/23 130.176.140.0/22 \
    130.176.0.0/18 54.239.204.0/22 130.176.160.0/19 70.132.0.0/18 15.158.0.0/16 130.176.136.0/23 \
    54.239.170.0/23 130.176.96.0/19 54.182.184.0/22 204.246.166.0/24 130.176.64.0/21 \
    54.182.172.0/22 205.251.218.0/24 130.176.144.0/20 54.182.176.0/21 130.176.78.0/23 \
    54.182.248.0/22 64.252.128.0/18 54.182.154.0/23 64.252.64.0/18 54.182.144.0/21 \
    54.182.224.0/21 130.176.128.0/21 52.46.0.0/18 3.172.64.0/18 52.82.128.0/23 18.68.0.0/16 \
    54.182.156.0/22 54.182.160.0/21 54.182.240.0/21 130.176.192.0/19 130.176.76.0/24 \
    54.239.208.0/21 54.182.188.0/23 24.110.128.0/17 3.172.0.0/18 130.176.80.0/22 54.182.128.0/20 \
    130.176.72.0/22 13.124.199.0/24 3.29.57.0/26";
/// Its IPv6 part.
const RANGES6: &str = "2600:9000:1000::/36 2600:9000:5200::/40 2600:9000:6000::/36";

/// How many ranges the list holds.
pub(crate) fn count() -> usize {
    RANGES.split(' ').chain(RANGES6.split(' ')).count()
}

/// The list as a file's text.
pub(crate) fn text() -> String {
    // As in AWS's own file, every origin-facing range also stands under CLOUDFRONT and AMAZON.
    let services = ["AMAZON", "CLOUDFRONT", "CLOUDFRONT_ORIGIN_FACING"];
    let entries = |key: &str, ranges: &str| -> Vec<Value> {
        let of = |service: &str, range: &str| json!({ key: range, "region": "GLOBAL", "service": service, "network_border_group": "GLOBAL" });
        services.iter().flat_map(|s| ranges.split(' ').map(|r| of(s, r))).collect()
    };
    format!(
        "{:#}\n",
        json!({
            "syncToken": "1787411825",
            "createDate": "2026-08-22-15-17-05",
            "prefixes": entries("ip_prefix", RANGES),
            "ipv6_prefixes": entries("ipv6_prefix", RANGES6),
        })
    )
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::demo::world::Host;

    fn holds(range: &str, address: Ipv4Addr) -> bool {
        let (base, length) = range.split_once('/').unwrap();
        let mask = u32::MAX << (32 - length.parse::<u32>().unwrap());
        u32::from(base.parse::<Ipv4Addr>().unwrap()) == u32::from(address) & mask
    }

    #[test]
    fn the_edge_is_in_the_list_and_nobody_else_is() {
        for host in Host::ALL {
            let address = host.address().parse().unwrap();
            let listed = RANGES.split(' ').any(|r| holds(r, address));
            assert_eq!(listed, host == Host::Edge, "{}", host.name());
        }
    }

    #[test]
    fn the_list_reads_like_the_real_one() {
        let list: Value = serde_json::from_str(&text()).unwrap();
        let facing = |key: &str| {
            list[key]
                .as_array()
                .unwrap()
                .iter()
                .filter(|p| p["service"] == "CLOUDFRONT_ORIGIN_FACING")
                .count()
        };
        assert_eq!((facing("prefixes"), facing("ipv6_prefixes")), (46, 3));
        assert_eq!(facing("prefixes") + facing("ipv6_prefixes"), count());
    }
}
