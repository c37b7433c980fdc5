//! How a download is divided, and the shell commands that carry it. Pure.

/// A part that is smaller than this is not worth a session of its own.
const LEAST: u64 = 1 << 20;

/// Bytes of a file that one session fetches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stripe {
    pub(crate) start: u64,
    pub(crate) len: u64,
}

/// Divides `size` bytes among up to `sessions`.
pub(crate) fn divide(size: u64, sessions: u8) -> Vec<Stripe> {
    let most = u64::from(sessions.max(1));
    let count = size.div_ceil(LEAST).clamp(1, most);
    let each = size.div_ceil(count).max(1);
    let starts = (0..count).map(|i| i * each).take_while(|s| *s < size || *s == 0);
    starts.map(|start| Stripe { start, len: each.min(size - start) }).collect()
}

/// Path of a command line, relative to the home directory where it is meant so.
fn path(remote: &str) -> Option<String> {
    let bare = remote.strip_prefix("~/").unwrap_or(remote);
    let bare = if bare.is_empty() { "." } else { bare };
    // What begins with a minus is a file, not an option.
    let safe = if bare.starts_with('-') { format!("./{bare}") } else { bare.to_owned() };
    shlex::try_quote(&safe).ok().map(std::borrow::Cow::into_owned)
}

/// Prints the size of a file that can be read.
pub(crate) fn size_command(remote: &str) -> Option<String> {
    let f = path(remote)?;
    Some(format!(
        "f={f}; [ -f \"$f\" ] || {{ echo \"$f: no such file\" >&2; exit 1; }}; wc -c <\"$f\""
    ))
}

/// Prints the SHA-256 of a file.
pub(crate) fn sum_command(remote: &str) -> Option<String> {
    Some(format!("sha256sum <{}", path(remote)?))
}

/// Prints bytes of a file from `start`.
pub(crate) fn read_command(remote: &str, stripe: Stripe) -> Option<String> {
    let f = path(remote)?;
    // tail counts from 1, and seeks in a file instead of reading it.
    Some(format!("tail -c +{} {f} | head -c {}", stripe.start + 1, stripe.len))
}

/// Takes a file on standard input, under its own name only when it has arrived whole.
pub(crate) fn write_command(remote: &str, name: &str, sum: &str) -> Option<String> {
    let (f, name) = (path(remote)?, shlex::try_quote(name).ok()?.into_owned());
    Some(format!(
        "f={f}; [ -d \"$f\" ] && f=\"$f\"/{name}; t=\"$f.part.$$\"; trap 'rm -f \"$t\"' EXIT; \
         cat >\"$t\" && s=$(sha256sum <\"$t\") && if [ \"${{s%% *}}\" = {sum} ]; then mv -f \"$t\" \"$f\"; \
         else echo 'the file arrived damaged' >&2; exit 1; fi"
    ))
}

/// The sum in what `sha256sum` prints.
pub(crate) fn read_sum(text: &str) -> Option<&str> {
    let sum = text.split_whitespace().next()?;
    (sum.len() == 64 && sum.bytes().all(|b| b.is_ascii_hexdigit())).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stripes_cover_a_file_once_and_small_files_take_one() {
        for (size, sessions) in [
            (0, 8),
            (1, 8),
            (LEAST, 8),
            (LEAST + 1, 8),
            (10 * LEAST + 7, 8),
            (9, 0),
            (3 * LEAST, 255),
        ] {
            let parts = divide(size, sessions);
            assert!(!parts.is_empty() && parts.len() <= usize::from(sessions.max(1)));
            let mut at = 0;
            for part in &parts {
                assert_eq!(part.start, at, "{size}");
                at += part.len;
            }
            assert_eq!(at, size);
        }
        assert_eq!(divide(LEAST, 8).len(), 1);
        assert_eq!(divide(100 * LEAST, 8).len(), 8);
    }

    #[tokio::test]
    async fn the_commands_do_in_a_real_shell_what_they_say_for_any_name() {
        let temp = tempfile::tempdir().unwrap();
        for name in ["plain", "a b", "it's", "-n", "$(id)"] {
            let bytes: Vec<u8> = (0..=255).cycle().take(3000).collect();
            crate::dirs::write_private(&temp.path().join(name), &bytes).unwrap();
            let run = async |command: Option<String>| {
                let line = format!("cd {} && {}", temp.path().display(), command.unwrap());
                let mut sh = crate::program::command("sh");
                sh.args(["-c", &line]).output().await.unwrap()
            };
            let size = run(size_command(name)).await;
            assert_eq!(String::from_utf8(size.stdout).unwrap().trim(), "3000", "{name}");
            let part = run(read_command(name, Stripe { start: 10, len: 20 })).await;
            assert_eq!(part.stdout, bytes[10..30], "{name}");
            let sum = String::from_utf8(run(sum_command(name)).await.stdout).unwrap();
            let sum = read_sum(&sum).unwrap();
            let back = write_command("copy", name, sum).unwrap();
            let path = shlex::try_quote(name).unwrap().into_owned();
            let path = if name.starts_with('-') { format!("./{path}") } else { path };
            assert!(run(Some(format!("{{ {back}; }} <{path}"))).await.status.success(), "{name}");
            assert_eq!(std::fs::read(temp.path().join("copy")).unwrap(), bytes);
            let damaged = write_command("copy2", name, &"0".repeat(64)).unwrap();
            assert!(!run(Some(format!("({damaged}) <{path}"))).await.status.success());
            assert!(!temp.path().join("copy2").exists());
        }
        let left = std::fs::read_dir(temp.path()).unwrap();
        let left: Vec<_> = left.map(|e| e.unwrap().file_name()).collect();
        assert!(!left.iter().any(|n| n.to_string_lossy().contains(".part")), "{left:?}");
    }
}
