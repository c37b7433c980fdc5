//! Where the sources are: the directory that was said, else `infra` here or in a directory above.

use std::path::{Path, PathBuf};

use palisade_infra_model::{At, Estate, Mistakes, Project, project::Environment, render};

use crate::{
    cli::Common,
    failed::{Failed, Outcome},
};

/// The file that every project has.
const LIST: &str = "stacks.yaml";

/// Reads the project.
///
/// # Errors
/// When there is none, or it has mistakes.
pub(crate) fn project(common: &Common) -> Outcome<Project> {
    let dir = match &common.dir {
        Some(dir) => dir.clone(),
        None => {
            let here = std::env::current_dir()
                .map_err(|e| Failed::because("find the current directory", &e))?;
            upwards(&here).ok_or_else(|| {
                Failed::usage(format!("no {LIST} in infra here or above"))
                    .hint("give --dir, or go to where infra is")
            })?
        }
    };
    Project::load(&dir).map_err(|e| mistakes(dir.display(), "cannot be read", &e))
}

/// An environment of it, in the region that was said: for questions that touch no account.
///
/// # Errors
/// When there is no such environment.
pub(crate) fn environment(project: &Project, name: &str, common: &Common) -> Outcome<Environment> {
    let known = || project.environments.keys().cloned().collect::<Vec<_>>().join(", ");
    let mut found =
        project.environments.get(name).cloned().ok_or_else(|| {
            Failed::usage(format!("there is no environment {name}")).hint(known())
        })?;
    if let Some(region) = &common.region {
        found.region.clone_from(region);
    }
    Ok(found)
}

/// An environment of it for work in its account. Its region is the written one: another would move
/// the home stacks only, and the global ones would be those of the real environment.
///
/// # Errors
/// When there is none, or another region was said.
pub(crate) fn deployed(project: &Project, name: &str, common: &Common) -> Outcome<Environment> {
    let found = environment(project, name, &Common { region: None, ..common.clone() })?;
    match &common.region {
        Some(region) if *region != found.region => Err(Failed::refused(format!(
            "--region {region}: {name} is in {}, and its global stacks are one environment's only",
            found.region
        ))
        .hint(format!("leave --region out, or make another environment of params/{name}.yaml"))),
        Some(_) | None => Ok(found),
    }
}

/// It, rendered.
///
/// # Errors
/// All mistakes that rendering finds.
pub(crate) fn estate(project: &Project, environment: &Environment) -> Outcome<Estate> {
    render(project, environment).map_err(|e| mistakes(&environment.name, "cannot be rendered", &e))
}

/// Each mistake is a line of its own, and the failure one that counts them.
fn mistakes(what: impl std::fmt::Display, cannot: &str, found: &Mistakes) -> Failed {
    let count = found.0.len();
    let count = if count == 1 { "one mistake".to_owned() } else { format!("{count} mistakes") };
    Failed::usage(format!("{what}: {cannot}: {count}"))
        .before(found.to_string().lines())
        .hint("mend the lines that are named above")
}

/// A place in the sources, as an editor finds it from here.
pub(crate) fn path(project: &Project, at: &At) -> String {
    format!("{}:{}", project.dir.join(&*at.file).display(), at.line)
}

fn upwards(here: &Path) -> Option<PathBuf> {
    let mut shown = PathBuf::new();
    for above in here.ancestors() {
        if above.join("infra").join(LIST).is_file() {
            return Some(shown.join("infra"));
        }
        if above.join(LIST).is_file() {
            // Messages name files by this path: as short as it can be.
            return Some(if shown.as_os_str().is_empty() { PathBuf::from(".") } else { shown });
        }
        shown.push("..");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_is_found_from_below_and_from_beside_it() {
        let temp = tempfile::tempdir().unwrap();
        let deep = temp.path().join("infra/templates");
        std::fs::create_dir_all(&deep).unwrap();
        assert_eq!(upwards(&deep), None);
        std::fs::File::create(temp.path().join("infra").join(LIST)).unwrap();
        assert_eq!(upwards(temp.path()), Some("infra".into()));
        assert_eq!(upwards(&deep), Some("..".into()));
    }
}
