//! `docs/spec.md` and `docs/supervisor-parity.md` promise nothing that no test holds: the last cell of
//! each row names tests, and every name must be the one of a test function, or of a check of the demo.

use anyhow::{Result, bail, ensure};

use crate::{host, say, sizes};

const PROMISES: [&str; 2] = ["docs/spec.md", "docs/supervisor-parity.md"];
/// A name that starts so is the title of a check of the demo.
const DEMO: &str = "demo: ";

/// Fails if a promise names no test, or one that is not there.
pub(crate) fn check() -> Result<()> {
    let mut code = String::new();
    for source in sizes::sources()? {
        code.push_str(&host::read(&source)?);
    }
    let mut all = 0;
    for page in PROMISES {
        let path = host::workspace().join(page);
        if !path.is_file() {
            bail!("{page} is missing");
        }
        let (promises, wrong) = verify(&host::read(&path)?, &code);
        ensure!(promises > 0, "{page} has no row");
        ensure!(wrong.is_empty(), "{page}:\n{}", wrong.join("\n"));
        all += promises;
    }
    say::line(&format!("{all} promises, each with its test"));
    Ok(())
}

/// How many rows there are, and what is wrong with them.
fn verify(spec: &str, code: &str) -> (usize, Vec<String>) {
    let mut wrong = Vec::new();
    let mut promises = 0;
    let mut header = true;
    for (at, line) in spec.lines().enumerate() {
        let Some(row) = line.trim().strip_prefix('|') else {
            header = true;
            continue;
        };
        if row.trim_start().starts_with(['-', ':']) {
            header = false;
            continue;
        }
        if header {
            continue;
        }
        promises += 1;
        let cell = row.trim_end().trim_end_matches('|').rsplit('|').next().unwrap_or_default();
        let names: Vec<_> = cell.split('`').skip(1).step_by(2).collect();
        if names.is_empty() {
            wrong.push(format!("line {}: names no test", at + 1));
        }
        for name in names.into_iter().filter(|name| !is_there(name, code)) {
            wrong.push(format!("line {}: there is no test `{name}`", at + 1));
        }
    }
    (promises, wrong)
}

fn is_there(name: &str, code: &str) -> bool {
    if let Some(title) = name.strip_prefix(DEMO) {
        return code.contains(&format!("\"{title}")) || code.contains(&format!("{title}\""));
    }
    let function = name.rsplit("::").next().unwrap_or(name);
    code.contains(&format!("fn {function}("))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: &str = "#[test]\nfn it_holds() {}\nreport.check(\"the edge gets the page\", || {";

    #[test]
    fn every_row_must_name_a_test_that_is_there() {
        let spec = "# Promises\n\n| promise | test |\n|---|---|\n| a | `x::tests::it_holds` |\n\
                    | b | `gone`, `it_holds` |\n| c | none |\n| d | `demo: the edge gets the page` |\n";
        let (promises, wrong) = verify(spec, CODE);
        assert_eq!(promises, 4);
        assert_eq!(wrong, ["line 6: there is no test `gone`", "line 7: names no test"]);
    }

    #[test]
    fn the_heads_of_two_tables_are_no_promises() {
        let table = "| promise | test |\n|:--|---|\n| a | `it_holds` |\n";
        let (promises, wrong) = verify(&format!("{table}\ntext\n\n{table}"), CODE);
        assert_eq!((promises, wrong.len()), (2, 0));
    }
}
