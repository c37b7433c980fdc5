//! What every section is read with: an option's value with everything filled in, and what is wrong with
//! it told with its place.

use std::collections::BTreeMap;

use super::{
    super::mistakes::Place,
    host::{Host, World},
    ini::Ini,
    model::{Int, Refusal, Remark},
    percent::{self, Bad, Names, Value},
    python,
};

/// Names that are known beside the environment's.
pub(super) type Extra = BTreeMap<String, Value>;

/// Why a value is refused, before its place is looked up.
#[derive(Clone, Debug)]
pub(super) struct Refused {
    pub(super) text: String,
    pub(super) section: String,
    pub(super) option: String,
    /// For a limit that Supervisor has not.
    pub(super) is_ours: bool,
}

impl Refused {
    pub(super) fn new(text: impl Into<String>, section: &str, option: &str) -> Self {
        let (section, option) = (section.to_owned(), option.to_owned());
        Self { text: text.into(), section, option, is_ours: false }
    }

    pub(super) fn ours(self) -> Self {
        Self { is_ours: true, ..self }
    }
}

/// All that was read of the files, while it is made sense of.
pub(super) struct Reader<'a> {
    pub(super) host: &'a dyn Host,
    pub(super) world: &'a World,
    pub(super) ini: Ini,
    /// `ENV_X` and its value, for each variable.
    pub(super) environment: BTreeMap<String, String>,
    /// The folder of the main file.
    pub(super) here: String,
    /// The main file.
    pub(super) main: String,
    /// Whether that is a file of its own, and none that was made up.
    pub(super) has_main: bool,
    /// Which included file opened a section first.
    pub(super) opened_by: BTreeMap<String, String>,
    pub(super) warnings: Vec<String>,
    pub(super) included: Vec<String>,
    /// Those of them that could not be read.
    pub(super) unread: Vec<String>,
    pub(super) remarks: Vec<Remark>,
}

struct Scope<'a> {
    environment: &'a BTreeMap<String, String>,
    extra: &'a Extra,
}

impl Names for Scope<'_> {
    fn value(&self, name: &str) -> Option<Value> {
        self.extra
            .get(name)
            .cloned()
            .or_else(|| self.environment.get(name).cloned().map(Value::Text))
    }

    fn all(&self) -> Vec<(String, Value)> {
        let mut all: BTreeMap<_, _> =
            self.environment.iter().map(|(k, v)| (k.clone(), Value::Text(v.clone()))).collect();
        all.extend(self.extra.iter().map(|(k, v)| (k.clone(), v.clone())));
        all.into_iter().collect()
    }
}

/// `true` and `false` and their like, in any case.
pub(super) fn truth(text: &str) -> Option<bool> {
    match text.to_lowercase().as_str() {
        "yes" | "true" | "on" | "1" => Some(true),
        "no" | "false" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// A number of bytes: `50MB`, in any case.
fn size(text: &str) -> Result<Int, String> {
    let text = text.to_lowercase();
    for (unit, factor) in [("kb", 1 << 10), ("mb", 1 << 20), ("gb", 1 << 30)] {
        if let Some(number) = text.strip_suffix(unit) {
            return python::int(number).map(|n| n.saturating_mul(factor));
        }
    }
    python::int(&text)
}

/// Texts between commas.
pub(super) fn list(text: &str) -> Vec<String> {
    if text.is_empty() {
        return Vec::new();
    }
    text.split(',').map(|x| python::strip(x).to_owned()).collect()
}

impl Reader<'_> {
    /// Fills in a text; `what` is what Supervisor calls it.
    pub(super) fn expand(&self, text: &str, extra: &Extra, what: &str) -> Result<String, String> {
        let scope = Scope { environment: &self.environment, extra };
        percent::expand(text, &scope).map_err(|bad| {
            // An environment may have passwords in it.
            let shown = if what.ends_with("environment") { String::new() } else { python::repr(text) + " " };
            let format = format!("Format string {shown}for {}", python::repr(what));
            match bad {
                Bad::Format(why) => format!("{format} is badly formatted: {why}"),
                Bad::Unknown(name) => {
                    let known: Vec<_> = extra
                        .keys()
                        .filter(|k| !k.starts_with("ENV_"))
                        .map(String::as_str)
                        .chain(["ENV_ of each variable"])
                        .collect();
                    format!(
                        "{format} contains names ({}) which cannot be expanded. Available names: {}",
                        python::repr(&name),
                        known.join(", ")
                    )
                }
            }
        })
    }

    /// The value of an option, or of the default behind it, filled in.
    pub(super) fn get(
        &self,
        section: &str,
        option: &str,
        extra: &Extra,
    ) -> Result<Option<String>, Refused> {
        let Some(text) = self.raw(section, option) else { return Ok(None) };
        self.expand(text, extra, &format!("{section}.{option}"))
            .map(Some)
            .map_err(|text| Refused::new(text, section, option))
    }

    /// The value as it stands there.
    pub(super) fn raw(&self, section: &str, option: &str) -> Option<&str> {
        self.ini.entry(section, option).map(|e| e.value.as_str())
    }

    /// A value that reads itself from text.
    fn read<T>(
        &self,
        (section, option): (&str, &str),
        extra: &Extra,
        default: T,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, Refused> {
        match self.get(section, option, extra)? {
            None => Ok(default),
            Some(text) => read(&text).map_err(|text| Refused::new(text, section, option)),
        }
    }

    /// A whole number.
    pub(super) fn int(
        &self,
        section: &str,
        option: &str,
        extra: &Extra,
        default: Int,
    ) -> Result<Int, Refused> {
        self.read((section, option), extra, default, python::int)
    }

    /// A truth value.
    pub(super) fn bool(
        &self,
        section: &str,
        option: &str,
        extra: &Extra,
        default: bool,
    ) -> Result<bool, Refused> {
        self.read((section, option), extra, default, |text| {
            let bad = || format!("not a valid boolean value: {}", python::repr(text));
            truth(text).ok_or_else(bad)
        })
    }

    /// A number of bytes.
    pub(super) fn size(
        &self,
        section: &str,
        option: &str,
        extra: &Extra,
        default: Int,
    ) -> Result<Int, Refused> {
        self.read((section, option), extra, default, size)
    }

    /// A mode of a file.
    pub(super) fn mode(
        &self,
        section: &str,
        option: &str,
        extra: &Extra,
    ) -> Result<Option<Int>, Refused> {
        self.read((section, option), extra, None, |text| python::octal(text).map(Some))
    }

    /// Where an option stands; the section's first line if it stands nowhere.
    pub(super) fn place(&self, section: &str, option: &str) -> Place {
        self.ini.place(section, option).unwrap_or_else(|| Place::whole(self.main.as_ref()))
    }

    /// The same with its place.
    pub(super) fn placed(&self, refused: Refused) -> Refusal {
        let Refused { text, section, option, is_ours } = refused;
        let place = self.place(&section, &option);
        let key = [section, option].iter().filter(|p| !p.is_empty()).cloned().collect::<Vec<_>>();
        Refusal { place, key: key.join("."), text, is_ours }
    }

    /// Something worth knowing about an option.
    pub(super) fn remark(&mut self, section: &str, option: &str, text: impl Into<String>) {
        let remark = Remark {
            place: self.place(section, option),
            section: section.to_owned(),
            option: option.to_owned(),
            text: text.into(),
        };
        if !self.remarks.contains(&remark) {
            self.remarks.push(remark);
        }
    }
}
