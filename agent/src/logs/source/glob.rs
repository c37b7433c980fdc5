//! Patterns of file names, and which names are rotated forms of another.

/// Whether `name` fits a pattern of `*` (any characters) and `?` (one character). As in a shell, a
/// name that begins with a dot needs a pattern that does.
pub(in crate::logs) fn matches(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let (p, n): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut pi, mut ni) = (0, 0);
    // The last star and how much of the name it took.
    let mut star: Option<(usize, usize)> = None;
    while ni < n.len() {
        match p.get(pi) {
            Some('*') => {
                star = Some((pi, ni));
                pi += 1;
            }
            Some(c) if *c == '?' || *c == n[ni] => {
                pi += 1;
                ni += 1;
            }
            _ => match star {
                Some((at, took)) => {
                    star = Some((at, took + 1));
                    pi = at + 1;
                    ni = took + 1;
                }
                None => return false,
            },
        }
    }
    p.iter().skip(pi).all(|c| *c == '*')
}

/// Whether `name` is what a rotation makes of `own`: `own.1`, `own-20260101`, `own.1.gz`.
pub(super) fn is_rotation(own: &str, name: &str) -> bool {
    let mut rest = name.strip_prefix(own).unwrap_or_default().chars();
    matches!(rest.next(), Some('.' | '-')) && rest.next().is_some_and(|c| c.is_ascii_digit())
}

/// The names of which `name` may be a rotated form, shortest first.
pub(super) fn bases(name: &str) -> impl Iterator<Item = &str> {
    let places = name.char_indices().filter(|(_, c)| matches!(c, '.' | '-'));
    places.filter_map(|(at, _)| name.get(..at)).filter(|base| is_rotation(base, name))
}

/// The number of `own.N`; the higher it is, the older the file.
pub(super) fn rotation_number(own: &str, name: &str) -> Option<u64> {
    let number = name.strip_prefix(own)?.strip_prefix('.')?;
    number.strip_suffix(".gz").unwrap_or(number).parse().ok()
}

/// Whether `name` may be what somebody made of `own` in another way: `app.log.old`, `app-20260101.log`.
pub(super) fn is_alike(own: &str, name: &str) -> bool {
    let stem = own.rsplit_once('.').map_or(own, |(stem, _)| stem);
    !stem.is_empty() && name != own && name.starts_with(stem)
}

/// Whether the content is packed: a copy of what was a file of lines.
pub(super) fn is_compressed(name: &str) -> bool {
    [".gz", ".xz", ".bz2", ".zst", ".Z"].iter().any(|end| name.ends_with(end))
}

/// Whether it is packed in the way that we can unpack.
pub(super) fn is_gzip(name: &str) -> bool {
    name.ends_with(".gz")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks() {
        for (p, n) in
            [("*.log", "a.log"), ("a*b*c", "axxbyyc"), ("?", "é"), ("*", "x"), ("a**", "a")]
        {
            assert!(matches(p, n), "{p} {n}");
        }
        for (p, n) in
            [("*.log", "a.log.1"), ("?", "ab"), ("*", ".hidden"), ("a*b", "ac"), ("", "a")]
        {
            assert!(!matches(p, n), "{p} {n}");
        }
    }

    #[test]
    fn rotated_names() {
        for n in ["app.log.1", "app.log-20260101", "app.log.12.gz"] {
            assert!(is_rotation("app.log", n), "{n}");
        }
        for n in ["app.log", "app.log.bak", "app.logs.1", "xapp.log.1"] {
            assert!(!is_rotation("app.log", n), "{n}");
        }
        assert_eq!(bases("app-2.log.1").collect::<Vec<_>>(), ["app", "app-2.log"]);
        assert_eq!(rotation_number("app.log", "app.log.12"), Some(12));
        assert_eq!(rotation_number("app.log", "app.log.12.gz"), Some(12));
        assert_eq!(rotation_number("app.log", "app.log-20260101"), None);
        for n in ["app.log.old", "app-20260101.log", "app.1.log.gz"] {
            assert!(is_alike("app.log", n) && !is_rotation("app.log", n), "{n}");
        }
        assert!(!is_alike("app.log", "app.log") && !is_alike("app.log", "ap.log.1"));
    }
}
