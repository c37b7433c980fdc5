//! Patterns of file names, and which names are rotated forms of another.

/// Whether `name` fits a pattern of `*` (any characters) and `?` (one character). As in a shell, a
/// name that begins with a dot needs a pattern that does.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
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
    name.strip_prefix(own)?.strip_prefix('.')?.parse().ok()
}

/// Whether the content is packed: a copy of what was a file of lines.
pub(super) fn is_compressed(name: &str) -> bool {
    [".gz", ".xz", ".bz2", ".zst", ".Z"].iter().any(|end| name.ends_with(end))
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
        assert_eq!(rotation_number("app.log", "app.log-20260101"), None);
    }
}
