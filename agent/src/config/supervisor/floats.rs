//! Whole numbers printed as Python prints floats.

/// `%f`: so many zeros after the point, which `#` asks for where none follows, too.
pub(super) fn fixed(digits: &str, places: usize, alternate: bool) -> String {
    let point = if places == 0 && !alternate { "" } else { "." };
    format!("{digits}{point}{:0<places$}", "")
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
pub(super) fn scientific(size: u128, places: usize, alternate: bool) -> String {
    let (digits, exponent) = rounded(size, places);
    format!("{}e+{exponent:02}", pointed(&digits, 1, alternate))
}

/// Digits with a point after so many of them, if any follow it or it is asked for.
fn pointed(digits: &str, whole: usize, alternate: bool) -> String {
    let first: String = digits.chars().take(whole).collect();
    let rest: String = digits.chars().skip(whole).collect();
    let point = if rest.is_empty() && !alternate { "" } else { "." };
    format!("{first}{point}{rest}")
}

/// `%g`; `#` keeps the zeros at its end.
pub(super) fn general(size: u128, figures: usize, alternate: bool) -> String {
    let (digits, exponent) = rounded(size, figures - 1);
    if exponent < figures {
        let kept = if alternate { figures } else { exponent + 1 };
        let digits: String = digits.chars().take(kept).collect();
        return pointed(&digits, exponent + 1, alternate);
    }
    // The first digit is no zero: the number has more digits than figures.
    let shown = if alternate { digits.as_str() } else { digits.trim_end_matches('0') };
    format!("{}e+{exponent:02}", pointed(shown, 1, alternate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_numbers_are_rounded_as_floats_are() {
        for (n, places, want) in [(1234, 1, "1.2e+03"), (9999, 2, "1.00e+04"), (25, 0, "2e+01")] {
            assert_eq!(scientific(n, places, false), want);
        }
        for (n, figures, want) in [(1_000_000, 6, "1e+06"), (123_456, 6, "123456"), (0, 6, "0")] {
            assert_eq!(general(n, figures, false), want);
        }
    }

    #[test]
    fn the_alternate_form_keeps_point_and_zeros() {
        for (n, places, want) in [("5", 0, "5."), ("0", 0, "0."), ("5", 2, "5.00")] {
            assert_eq!(fixed(n, places, true), want);
        }
        for (n, want) in [(5, "5.e+00"), (123_456_789, "1.e+08"), (0, "0.e+00")] {
            assert_eq!(scientific(n, 0, true), want);
        }
        for (n, figures, want) in [
            (5, 6, "5.00000"),
            (0, 6, "0.00000"),
            (123_456, 6, "123456."),
            (123_456_789, 6, "1.23457e+08"),
            (100_000_000, 3, "1.00e+08"),
            (123_456_789, 1, "1.e+08"),
        ] {
            assert_eq!(general(n, figures, true), want);
        }
    }
}
