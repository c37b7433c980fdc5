//! `Fn::Cidr`.

use ipnet::IpNet;

/// The most that CloudFormation gives.
const MOST: usize = 256;

/// `count` blocks with `bits` bits for hosts each, from the beginning of `block`.
pub(super) fn split(block: &str, count: &str, bits: &str) -> Result<Vec<String>, String> {
    let net: IpNet = block.parse().map_err(|e| format!("Fn::Cidr: {block:?}: {e}"))?;
    let count = count.parse::<usize>().ok().filter(|n| (1..=MOST).contains(n));
    let count = count.ok_or_else(|| format!("Fn::Cidr: the count must be 1 to {MOST}"))?;
    let length = bits.parse::<u8>().ok().and_then(|bits| net.max_prefix_len().checked_sub(bits));
    let length = length.ok_or_else(|| format!("Fn::Cidr: {bits} is no number of host bits"))?;
    let nets = net
        .subnets(length)
        .map_err(|_| format!("Fn::Cidr: {block} is smaller than a /{length}"))?;
    let nets: Vec<_> = nets.take(count).map(|n| n.to_string()).collect();
    if nets.len() < count {
        return Err(format!("Fn::Cidr: {block} has only {} blocks of /{length}", nets.len()));
    }
    Ok(nets)
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn blocks_follow_each_other_and_must_fit() {
        assert_eq!(
            split("10.0.0.0/16", "3", "12").unwrap(),
            ["10.0.0.0/20", "10.0.16.0/20", "10.0.32.0/20"]
        );
        assert_eq!(
            split("2001:db8::/56", "2", "64").unwrap(),
            ["2001:db8::/64", "2001:db8:0:1::/64"]
        );
        assert!(split("10.0.0.0/24", "2", "8").unwrap_err().contains("only 1"));
        assert!(split("10.0.0.0/24", "1", "12").unwrap_err().contains("smaller"));
        assert!(split("10.0.0.0/16", "0", "8").is_err() && split("x", "1", "8").is_err());
    }
}
