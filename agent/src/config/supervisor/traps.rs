//! Programs whose settings lose their work when they are stopped.

use super::model::{Config, Int, Process, Remark};

/// How long gunicorn lets requests go on unless told otherwise.
const GRACEFUL: Int = 30;
/// Supervisor's own wait, which is what stands where nobody thought of it.
const USUAL_WAIT: Int = 10;

/// Adds what is known of this program.
pub(super) fn traps(config: &Config, process: &Process, remarks: &mut Vec<Remark>) {
    let Ok(words) = &process.argv else { return };
    let mut note =
        |option: &str, text: String| remarks.push(config.about(&process.section, option, text));
    if is_worker(words) {
        if process.stopasgroup {
            note(
                "stopasgroup",
                "stopasgroup=true sends the stop signal to the pool of a Celery worker too, which kills \
                 the tasks that run, without a word; without it the worker ends them first"
                    .to_owned(),
            );
        }
        if process.stopwaitsecs <= USUAL_WAIT {
            note(
                "stopwaitsecs",
                format!(
                    "a Celery worker ends its tasks before it stops; after {}s it is killed together \
                     with those that still run",
                    process.stopwaitsecs
                ),
            );
        }
    }
    if runs(words, "gunicorn") {
        let graceful = graceful(words);
        if process.stopwaitsecs < graceful {
            note(
                "stopwaitsecs",
                format!(
                    "gunicorn lets requests go on for {graceful}s (graceful_timeout) and is killed after \
                     {}s; {}s would be enough",
                    process.stopwaitsecs,
                    graceful + 5
                ),
            );
        }
    }
    if !process.stopasgroup && is_shell_between(words) {
        note(
            "command",
            "the stop signal reaches the shell only, and what it started is killed, or without \
             cgroups lives on; write exec before the last command"
                .to_owned(),
        );
    }
}

fn base(word: &str) -> &str {
    word.rsplit('/').next().unwrap_or(word)
}

/// Whether the words run a program, by itself or through Python.
fn runs(words: &[String], program: &str) -> bool {
    let first = words.first().map_or("", |w| base(w));
    let second = words.get(1).map_or("", |w| base(w));
    let is_module = second == "-m" && words.get(2).is_some_and(|w| w == program);
    first == program || (first.starts_with("python") && (second == program || is_module))
}

fn is_worker(words: &[String]) -> bool {
    let is_celery = runs(words, "celery")
        || words
            .iter()
            .zip(words.iter().skip(1))
            .any(|(a, b)| base(a) == "manage.py" && b == "celery");
    is_celery && words.iter().any(|w| w == "worker") || runs(words, "celeryd")
}

/// `--graceful-timeout`, as one word or two.
fn graceful(words: &[String]) -> Int {
    const OPTION: &str = "--graceful-timeout";
    let joined = words.iter().find_map(|w| w.strip_prefix(OPTION)?.strip_prefix('='));
    let apart = || {
        words.iter().zip(words.iter().skip(1)).find(|(a, _)| *a == OPTION).map(|(_, b)| b.as_str())
    };
    joined.or_else(apart).and_then(|n| n.parse().ok()).unwrap_or(GRACEFUL)
}

/// A shell that stays between the supervisor and the program, since it has more to do.
fn is_shell_between(words: &[String]) -> bool {
    let [shell, rest @ ..] = words else { return false };
    if !["sh", "bash", "dash", "zsh"].contains(&base(shell)) {
        return false;
    }
    let mut rest = rest.iter().skip_while(|w| !(w.starts_with('-') && w.ends_with('c')));
    let script = rest.nth(1).map_or("", String::as_str);
    let has_more = script.contains("&&") || script.contains(';') || script.contains('|');
    has_more && !script.split(|c: char| !c.is_alphanumeric()).any(|w| w == "exec")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn workers_and_servers_are_known_by_their_commands() {
        for (text, want) in [
            ("/srv/venv/bin/celery -A app worker", true),
            ("celery --app=app worker -l info", true),
            ("python manage.py celery worker", true),
            ("python3 -m celery -A app worker", true),
            ("celery -A app beat", false),
            ("python worker.py", false),
        ] {
            assert_eq!(is_worker(&words(text)), want, "{text}");
        }
        for (text, want) in [
            ("gunicorn app.wsgi", 30),
            ("gunicorn --graceful-timeout 5 x", 5),
            ("/x/gunicorn --graceful-timeout=90 x", 90),
        ] {
            assert!(runs(&words(text), "gunicorn"));
            assert_eq!(graceful(&words(text)), want);
        }
    }

    #[test]
    fn a_shell_that_gives_way_is_no_trap() {
        let shell = |script: &str| {
            is_shell_between(&["/bin/bash".to_owned(), "-lc".to_owned(), script.to_owned()])
        };
        assert!(shell("cd /srv && gunicorn app"));
        assert!(!shell("cd /srv && exec gunicorn app"));
        assert!(!shell("gunicorn app"));
    }
}
