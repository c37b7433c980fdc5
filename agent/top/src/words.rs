//! Figures as people read them, in as many columns as there are.

use palisade_types::ProcessStatus;

/// `512K`, `103M`, `1.4G`: five columns at most.
#[must_use]
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "K", "M", "G", "T"];
    let mut unit = 0;
    // In tenths, so that nothing is rounded twice.
    let mut tenths = u128::from(n) * 10;
    while tenths >= 10_235 && unit + 1 < UNITS.len() {
        tenths = (tenths + 512) / 1024;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or("");
    if unit > 0 && tenths < 100 {
        format!("{}.{}{name}", tenths / 10, tenths % 10)
    } else {
        format!("{}{name}", (tenths + 5) / 10)
    }
}

/// `0.0`, `12.5`, `160`: hundredths of one CPU.
pub(crate) fn percent(share: f64) -> String {
    if share < 99.95 { format!("{share:.1}") } else { format!("{share:.0}") }
}

/// `42s`, `3m12s`, `5h03m`, `12d04h`.
pub(crate) fn age(ms: i64) -> String {
    let s = ms.max(0) / 1000;
    let (m, h, d) = (s / 60, s / 3600, s / 86_400);
    if d > 0 {
        format!("{d}d{:02}h", h % 24)
    } else if h > 0 {
        format!("{h}h{:02}m", m % 60)
    } else if m > 0 {
        format!("{m}m{:02}s", s % 60)
    } else {
        format!("{s}s")
    }
}

/// `GROUP:NAME`, or the name alone where both are the same.
pub(crate) fn full_name(p: &ProcessStatus) -> String {
    if p.name.as_str() == p.group.as_str() {
        p.name.to_string()
    } else {
        format!("{}:{}", p.group, p.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_this_world_take_five_columns() {
        let shown: Vec<_> = [
            0,
            1023,
            1024,
            10 << 10,
            999 << 10,
            1023 << 10,
            (1 << 20) - 1,
            1 << 20,
            1_503_238_553,
            u64::MAX,
        ]
        .into_iter()
        .map(bytes)
        .collect();
        assert_eq!(
            shown,
            ["0B", "1023B", "1.0K", "10K", "999K", "1023K", "1.0M", "1.0M", "1.4G", "16777216T"]
        );
    }

    #[test]
    fn shares_lose_their_tenth_beyond_a_hundred() {
        assert_eq!([percent(0.0), percent(12.34), percent(99.96)], ["0.0", "12.3", "100"]);
    }

    #[test]
    fn ages_have_two_units() {
        let shown: Vec<_> =
            [-5, 41_999, 192_000, 18_180_000, 1_051_200_000].into_iter().map(age).collect();
        assert_eq!(shown, ["0s", "41s", "3m12s", "5h03m", "12d04h"]);
    }
}
