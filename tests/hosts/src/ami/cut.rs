//! A copy of the template that Packer 1.6 understands.

/// Begins a part that needs a newer Packer.
const BEGIN: &str = "#>= 1.7";

/// Ends it.
const END: &str = "#<";

/// The text without its marked parts; `None` if a mark is without its partner.
pub(super) fn cut(text: &str) -> Option<String> {
    let mut kept = String::new();
    let mut is_cut = false;
    for line in text.lines() {
        match (line.trim(), is_cut) {
            (BEGIN, false) => is_cut = true,
            (END, true) => is_cut = false,
            (BEGIN, true) | (END, false) => return None,
            (_, true) => {}
            (_, false) => {
                kept.push_str(line);
                kept.push('\n');
            }
        }
    }
    (!is_cut).then_some(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marked_parts_go_and_the_rest_stays() {
        let text = "a {\n  #>= 1.7\n  b = 1\n  #<\n  c = 2\n}\n";
        assert_eq!(cut(text).unwrap(), "a {\n  c = 2\n}\n");
    }

    #[test]
    fn a_mark_without_its_partner_is_a_mistake() {
        assert_eq!(cut("#>= 1.7\nb = 1\n"), None);
        assert_eq!(cut("b = 1\n#<\n"), None);
        assert_eq!(cut("#>= 1.7\n#>= 1.7\n#<\n"), None);
    }
}
