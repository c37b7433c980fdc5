//! The documented patterns, as pure checks.

use std::collections::BTreeMap;

/// Whether the text has this many characters.
pub(super) fn has_length(text: &str, min: usize, max: usize) -> bool {
    (min..=max).contains(&text.chars().count())
}

/// `^([A-Za-z0-9_\-]\w+|Custom:[a-zA-Z0-9_\-]\w+)$`
pub(super) fn compliance_type_is_good(name: &str) -> bool {
    let rest = name.strip_prefix("Custom:").unwrap_or(name);
    let mut chars = rest.chars();
    let first = chars.next().is_some_and(|c| is_word(c) || c == '-');
    first && !chars.as_str().is_empty() && chars.all(is_word) && has_length(name, 1, 100)
}

/// `^(AWS|Custom):.*$`
pub(super) fn inventory_type_is_good(name: &str) -> bool {
    has_length(name, 1, 100) && (name.starts_with("AWS:") || name.starts_with("Custom:"))
}

/// `(^i-(\w{8}|\w{17})$)|(^mi-\w{17}$)`
pub(super) fn instance_id_is_good(id: &str) -> bool {
    let words = |s: &str, lengths: &[usize]| lengths.contains(&s.len()) && s.chars().all(is_word);
    id.strip_prefix("i-").is_some_and(|s| words(s, &[8, 17]))
        || id.strip_prefix("mi-").is_some_and(|s| words(s, &[17]))
}

/// `^([0-9]{1,6})(\.[0-9]{1,6})$`
pub(super) fn schema_version_is_good(version: &str) -> bool {
    let digits = |s: &str| has_length(s, 1, 6) && s.bytes().all(|b| b.is_ascii_digit());
    version.split_once('.').is_some_and(|(a, b)| digits(a) && digits(b))
}

/// `20yy-MM-ddTHH:mm:ssZ`
pub(super) fn capture_time_is_good(time: &str) -> bool {
    const SHAPE: &[u8] = b"20dd-dd-ddTdd:dd:ddZ";
    let bytes = time.as_bytes();
    let fits = |(b, s): (&u8, &u8)| if *s == b'd' { b.is_ascii_digit() } else { b == s };
    let number = |from: usize| {
        bytes.get(from..from + 2).and_then(|b| std::str::from_utf8(b).ok()?.parse::<u8>().ok())
    };
    let within =
        |from: usize, min: u8, max: u8| number(from).is_some_and(|n| (min..=max).contains(&n));
    bytes.len() == SHAPE.len()
        && bytes.iter().zip(SHAPE).all(fits)
        && within(5, 1, 12)
        && within(8, 1, 31)
        && within(11, 0, 23)
        && within(14, 0, 59)
        && within(17, 0, 59)
}

/// Attributes of an item or a row: names of 1 to 64 characters, values of at most 4096.
pub(super) fn attributes_are_good(map: &BTreeMap<String, String>) -> bool {
    map.iter().all(|(k, v)| has_length(k, 1, 64) && has_length(v, 0, 4096))
}

/// Letters, digits and `.-_`, in at most 15 levels; not what AWS keeps for itself.
pub(super) fn parameter_name_is_good(name: &str) -> bool {
    let reserved = name.trim_start_matches('/').to_ascii_lowercase();
    let char_is_good = |c: char| is_word(c) || matches!(c, '.' | '-' | '/');
    has_length(name, 1, 1011)
        && name.chars().all(char_is_good)
        && (!name.contains('/') || name.starts_with('/'))
        && name.matches('/').count() <= 15
        && !name.ends_with('/')
        && !reserved.starts_with("aws")
        && !reserved.starts_with("ssm")
}

/// `\w` of the service's patterns.
fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_types() {
        for good in ["Custom:PalisadePatch", "Patch", "Association", "Custom:-a"] {
            assert!(compliance_type_is_good(good), "{good}");
        }
        for bad in ["Custom:", "Custom:a", "", "Custom:Palisade-Patch", "Custom:Palisade Patch"] {
            assert!(!compliance_type_is_good(bad), "{bad}");
        }
        assert!(inventory_type_is_good("Custom:x") && !inventory_type_is_good("Palisade"));
    }

    #[test]
    fn ids_of_instances() {
        for good in ["i-0123456789abcdef0", "i-01234567", "mi-0123456789abcdef0"] {
            assert!(instance_id_is_good(good), "{good}");
        }
        for bad in ["i-0123", "host-1", "mi-01234567", "i-0123456789abcdef0 "] {
            assert!(!instance_id_is_good(bad), "{bad}");
        }
    }

    #[test]
    fn times_have_whole_seconds_and_end_in_z() {
        assert!(capture_time_is_good("2026-08-22T15:17:05Z"));
        for bad in [
            "2026-08-22T15:17:05.000Z",
            "2026-08-22T15:17:05+00:00",
            "2026-13-22T15:17:05Z",
            "2026-08-22T24:17:05Z",
            "1970-01-01T00:00:00Z",
            "",
        ] {
            assert!(!capture_time_is_good(bad), "{bad}");
        }
    }

    #[test]
    fn versions_of_schemas() {
        assert!(schema_version_is_good("1.0") && schema_version_is_good("10.123456"));
        assert!(!schema_version_is_good("1") && !schema_version_is_good("1.0.0"));
    }

    #[test]
    fn names_of_parameters() {
        assert!(parameter_name_is_good("/palisade/prod/ami/origin") && parameter_name_is_good("a"));
        let deep = format!("/a{}", "/b".repeat(15));
        for bad in ["/aws/x", "ssm-x", "/a b", "a/b", "/a/", &deep] {
            assert!(!parameter_name_is_good(bad), "{bad}");
        }
    }
}
