//! `diagram`: what is rendered, as a picture or a table on standard output.

use palisade_infra_model::{Estate, diagram};

use crate::{
    cli::{Common, Diagram, Picture},
    failed::{Failed, Outcome},
    find, printer,
};

/// Draws one environment.
///
/// # Errors
/// When it cannot be rendered.
pub(crate) fn draw(common: &Common, args: &Diagram) -> Outcome<()> {
    let project = find::project(common)?;
    let format = match args.format {
        Picture::Mermaid => diagram::Format::Mermaid,
        Picture::Svg => diagram::Format::Svg,
        Picture::Groups => diagram::Format::Groups,
    };
    let names: Vec<&String> = match &args.env {
        Some(name) => vec![name],
        None => project.environments.keys().collect(),
    };
    let mut largest: Option<Estate> = None;
    for name in names {
        let environment = find::environment(&project, name, common)?;
        let estate = find::estate(&project, &environment)?;
        let size = |e: &Estate| e.all().count();
        if largest.as_ref().is_none_or(|l| size(&estate) > size(l)) {
            largest = Some(estate);
        }
    }
    let estate = largest.ok_or_else(|| Failed::usage("there is no environment"))?;
    printer::line(diagram::diagram(&estate, format).trim_end());
    Ok(())
}
