//! Pages of docs/ops as something that can be run.
//!
//! A comment before a fenced `console` block says what is to be done with it:
//!
//! ```text
//! <!-- try -->                      run it on the page's host
//! <!-- try: with=A, with=B -->      first bring the host into these states
//! <!-- try: host=new -->            run it on another host of the page
//! <!-- try: until -->               run it again until it is as shown
//! <!-- not tried: REASON -->        leave it out
//! ```
//!
//! In a block, a line that begins with `# ` is a command, with the lines of a here-document after it.
//! What stands below is the output that is expected: the lines in this order, `...` for anything,
//! a line `...` for any lines. `(exit N)` or `(exit N or M)` is the exit code; without it, 0.

use std::{fs, path::Path};

/// A page.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) name: String,
    pub(crate) blocks: Vec<Block>,
}

/// A block that is run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// Where it begins.
    pub(crate) line: usize,
    /// The host's name within the page.
    pub(crate) host: String,
    /// States that the host must be in.
    pub(crate) with: Vec<String>,
    /// Whether it is run again until it is as shown.
    pub(crate) until: bool,
    pub(crate) steps: Vec<Step>,
}

/// A command and what it should say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) command: String,
    pub(crate) expected: Vec<String>,
    pub(crate) codes: Vec<i32>,
}

impl Page {
    /// Reads a page. Every `console` block must say whether it is tried.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(path).map_err(|e| format!("{name}: {e}"))?;
        let blocks = blocks(&text).map_err(|e| format!("{name}:{e}"))?;
        Ok(Self { name, blocks })
    }

    /// The states that any of its hosts must be in.
    pub(crate) fn states(&self) -> impl Iterator<Item = &str> {
        self.blocks.iter().flat_map(|b| &b.with).map(String::as_str)
    }
}

fn blocks(text: &str) -> Result<Vec<Block>, String> {
    let mut found = Vec::new();
    let mut mark: Option<&str> = None;
    let mut lines = text.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        if let Some(comment) = line.strip_prefix("<!-- ").and_then(|l| l.strip_suffix(" -->")) {
            mark = Some(comment);
            continue;
        }
        if let Some(language) = line.strip_prefix("```") {
            let body: Vec<_> =
                lines.by_ref().map(|(_, l)| l).take_while(|l| !l.starts_with("```")).collect();
            if language == "console"
                && let Some(block) =
                    block(at + 1, mark, &body).map_err(|e| format!("{}: {e}", at + 1))?
            {
                found.push(block);
            }
        }
        if !line.is_empty() {
            mark = None;
        }
    }
    Ok(found)
}

fn block(line: usize, mark: Option<&str>, body: &[&str]) -> Result<Option<Block>, String> {
    let mark = mark.ok_or("this block does not say whether it is tried")?;
    if let Some(reason) = mark.strip_prefix("not tried: ") {
        return if reason.is_empty() { Err("why is it not tried?".to_owned()) } else { Ok(None) };
    }
    let options = match mark.strip_prefix("try") {
        Some("") => "",
        Some(rest) => rest.strip_prefix(": ").ok_or_else(|| format!("unknown mark {mark:?}"))?,
        None => return Err(format!("unknown mark {mark:?}")),
    };
    let mut block = Block {
        line,
        host: "host".to_owned(),
        with: Vec::new(),
        until: false,
        steps: steps(body)?,
    };
    for option in options.split(", ").filter(|o| !o.is_empty()) {
        match option.split_once('=') {
            Some(("with", state)) => block.with.push(state.to_owned()),
            Some(("host", host)) => host.clone_into(&mut block.host),
            None if option == "until" => block.until = true,
            _ => return Err(format!("unknown option {option:?}")),
        }
    }
    Ok(Some(block))
}

fn steps(body: &[&str]) -> Result<Vec<Step>, String> {
    let mut steps: Vec<Step> = Vec::new();
    let mut lines = body.iter();
    while let Some(line) = lines.next() {
        if let Some(first) = line.strip_prefix("# ") {
            let mut command = first.to_owned();
            if let Some((_, end)) = first.split_once("<<'") {
                let end = end.strip_suffix('\'').ok_or("a here-document must end its line")?;
                for more in lines.by_ref() {
                    command = format!("{command}\n{more}");
                    if *more == end {
                        break;
                    }
                }
            }
            steps.push(Step { command, expected: Vec::new(), codes: vec![0] });
            continue;
        }
        let step = steps.last_mut().ok_or("output before the first command")?;
        match line.strip_prefix("(exit ").and_then(|l| l.strip_suffix(')')) {
            Some(codes) => {
                let parsed: Result<Vec<i32>, _> = codes.split(" or ").map(str::parse).collect();
                step.codes = parsed.map_err(|_| format!("{line:?} names no exit codes"))?;
            }
            None => step.expected.push((*line).to_owned()),
        }
    }
    if steps.is_empty() { Err("no command".to_owned()) } else { Ok(steps) }
}

/// Whether the output has the expected lines, in their order; others may stand between them.
pub(crate) fn fits(expected: &[String], output: &str) -> bool {
    let mut lines = output.lines();
    expected.iter().filter(|e| *e != "...").all(|e| lines.any(|line| line_fits(e, line)))
}

/// `...` stands for anything, also for nothing.
fn line_fits(pattern: &str, line: &str) -> bool {
    let mut parts = pattern.split("...");
    let first = parts.next().unwrap_or_default().trim_end();
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    let mut open = false;
    for part in parts {
        open = true;
        let part = part.trim();
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    let ends_open = open && pattern.ends_with("...");
    ends_open || rest.trim_end().is_empty()
}

/// What this file promises, where it can be seen without a host.
#[cfg(test)]
mod checks {
    use super::*;

    #[test]
    fn a_block_that_does_not_say_whether_it_is_tried_is_refused() {
        let text = "text\n\n```console\n# true\n```\n";
        assert_eq!(blocks(text).unwrap_err(), "3: this block does not say whether it is tried");
        // A mark belongs to the block right after it.
        assert!(blocks(&format!("<!-- try -->\n{text}")).is_err());
        assert!(blocks("<!-- try: wiht=x -->\n```console\n# true\n```\n").is_err());
    }

    #[test]
    fn commands_outputs_here_documents_and_exit_codes_are_read() {
        let text = "<!-- try: with=agent, host=new, until -->\n```console\n# cat > f <<'EOF'\n# not a command\n\
                    EOF\n# false\nfirst ...\n(exit 1 or 2)\n```\n<!-- not tried: AWS -->\n```console\n$ aws\n```\n";
        let block = &blocks(text).unwrap()[0];
        assert_eq!((block.host.as_str(), block.until, block.line), ("new", true, 2));
        assert_eq!(block.steps[0].command, "cat > f <<'EOF'\n# not a command\nEOF");
        assert_eq!(block.steps[1].codes, [1, 2]);
        assert_eq!(block.steps[1].expected, ["first ..."]);
    }

    #[test]
    fn output_fits_in_order_and_only_dots_stand_for_anything() {
        let fits = |e: &[&str], out: &str| {
            fits(&e.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>(), out)
        };
        assert!(fits(&["web  RUNNING ...", "...", "end"], "web  RUNNING pid 1\nx\nend\n"));
        assert!(!fits(&["end", "web ..."], "web  RUNNING\nend\n"));
        assert!(!fits(&["web"], "web RUNNING\n"));
        assert!(fits(&["...ok...", "a: ... c"], "f: ok, 2\na: b c\n"));
        assert!(!fits(&["a: ... c"], "a: b\n"));
    }
}
