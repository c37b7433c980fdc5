//! Names of groups and streams that the service takes, made from the templates of the settings.

/// Longest name of either kind, in bytes.
const MAX_NAME: usize = 512;

/// Fills in a group name. Characters that a group may not have become `_`.
pub(super) fn group(template: &str, program: &str, process: &str) -> String {
    let ok = |c: char| c.is_ascii_alphanumeric() || "._-/#".contains(c);
    fill(template, program, process)
        .chars()
        .map(|c| if ok(c) { c } else { '_' })
        .take(MAX_NAME)
        .collect()
}

/// Fills in a stream name. Characters that a stream may not have become `_`.
pub(super) fn stream(template: &str, program: &str, process: &str) -> String {
    let mut name = String::new();
    for c in fill(template, program, process).chars() {
        let c = if c == ':' || c == '*' || c.is_control() { '_' } else { c };
        if name.len() + c.len_utf8() > MAX_NAME {
            break;
        }
        name.push(c);
    }
    name
}

fn fill(template: &str, program: &str, process: &str) -> String {
    template.replace("{program}", program).replace("{process}", process)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_filled_and_bad_characters_mapped() {
        assert_eq!(group("/palisade/prod/{program}", "web", "web_1"), "/palisade/prod/web");
        assert_eq!(group("/p/{program}", "a@b c", "x"), "/p/a_b_c");
        assert_eq!(stream("i-1/{process}", "files", "/var/log/a:*.log"), "i-1//var/log/a__.log");
        assert_eq!(stream("{process}", "x", &"é".repeat(400)).len(), 512);
    }
}
