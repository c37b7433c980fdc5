//! A terminal with a person at it, who answers one question after the other.

use std::{
    io::{Read as _, Write as _},
    process::{Command, Stdio},
};

use super::Lab;

/// Runs it where a person could be: the answers are given one question after the other.
pub(crate) fn on_a_terminal(
    lab: &Lab,
    words: &str,
    answers: &[&str],
) -> Option<(Option<i32>, String)> {
    if Command::new("script").arg("--version").output().is_err() {
        println!("skipped: there is no script(1) to make a terminal with");
        return None;
    }
    let words: Vec<&str> = words.split(' ').collect();
    let command = lab.command(&words);
    let mut line = command.get_program().to_string_lossy().into_owned();
    for word in command.get_args() {
        line.push_str(&format!(" '{}'", word.to_string_lossy()));
    }
    let mut child = Command::new("script")
        .args(["-qefc", &line, "/dev/null"])
        .current_dir(lab.dir.path())
        .env("HOME", lab.dir.path())
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = child.stdout.take().unwrap();
    let mut said = Vec::new();
    let mut answers = answers.iter();
    let mut asked = 0;
    let mut buffer = [0; 4096];
    loop {
        let read = output.read(&mut buffer).unwrap();
        if read == 0 {
            break;
        }
        said.extend_from_slice(buffer.get(..read).unwrap());
        let questions = String::from_utf8_lossy(&said).matches("[yes] ").count();
        while asked < questions {
            let Some(answer) = answers.next() else { break };
            writeln!(input, "{answer}").unwrap();
            asked += 1;
        }
    }
    drop(input);
    let status = child.wait().unwrap();
    Some((status.code(), String::from_utf8_lossy(&said).into_owned()))
}
