//! Whole numbers printed as Python prints floats.

/// `%f`: so many zeros after the point.
pub(super) fn fixed(digits: &str, places: usize) -> String {
    if places == 0 { digits.to_owned() } else { format!("{digits}.{:0<places$}", "") }
}

/// Digits and the power of ten of the first one, rounded to so many places after it.
fn rounded(size: u128, places: usize) -> (String, usize) {
    let digits = size.to_string();
    let exponent = digits.len() - 1;
    if digits.len() <= places + 1 {
        let width = places + 1;
        return (format!("{digits:0<width$}"), exponent);
    }
    let unit = 10_u128.pow(u32::try_from(exponent - places).unwrap_or(0));
    let (mut kept, rest) = (size / unit, size % unit);
    // Half to even, as a float of this size is printed.
    if rest * 2 > unit || (rest * 2 == unit && kept % 2 == 1) {
        kept += 1;
    }
    let shown = kept.to_string();
    if shown.len() > places + 1 {
        return (shown.chars().take(places + 1).collect(), exponent + 1);
    }
    (shown, exponent)
}

/// `%e`.
pub(super) fn scientific(size: u128, places: usize) -> String {
    let (digits, exponent) = rounded(size, places);
    let mut chars = digits.chars();
    let first: String = chars.by_ref().take(1).collect();
    let rest: String = chars.collect();
    let point = if rest.is_empty() { "" } else { "." };
    format!("{first}{point}{rest}e+{exponent:02}")
}

/// `%g`.
pub(super) fn general(size: u128, figures: usize) -> String {
    let (digits, exponent) = rounded(size, figures - 1);
    if exponent < figures {
        return digits.chars().take(exponent + 1).collect();
    }
    let mut shown = digits.trim_end_matches('0').to_owned();
    if shown.is_empty() {
        shown.push('0');
    }
    let mut chars = shown.chars();
    let first: String = chars.by_ref().take(1).collect();
    let rest: String = chars.collect();
    let point = if rest.is_empty() { "" } else { "." };
    format!("{first}{point}{rest}e+{exponent:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_numbers_are_rounded_as_floats_are() {
        for (n, places, want) in [(1234, 1, "1.2e+03"), (9999, 2, "1.00e+04"), (25, 0, "2e+01")] {
            assert_eq!(scientific(n, places), want);
        }
        for (n, figures, want) in [(1_000_000, 6, "1e+06"), (123_456, 6, "123456"), (0, 6, "0")] {
            assert_eq!(general(n, figures), want);
        }
    }
}
