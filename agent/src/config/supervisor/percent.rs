//! Python's `text % names`, as Supervisor expands `%(name)s` with it.
//!
//! The whole of it, since files lean on its corners: flags, width and precision, every conversion, and
//! the errors. A conversion without a name, as in `echo %s`, prints all names at once; no file can mean
//! that, but Supervisor starts such a program, so it is expanded here too.

use super::{
    floats::{fixed, general, scientific},
    python::{Int, repr},
};

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Int(Int),
}

/// Names and what they stand for.
pub(super) trait Names {
    /// The value of a name.
    fn value(&self, name: &str) -> Option<Value>;
    /// All of them in order.
    fn all(&self) -> Vec<(String, Value)>;
}

/// Why a text cannot be expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Bad {
    /// It names what is not known.
    Unknown(String),
    /// It is no format.
    Format(String),
}

/// A wider field than anybody means; Python would fill the memory with spaces.
const MAX_WIDTH: usize = 1000;
/// A longer text than anybody means.
const MAX_TEXT: usize = 1 << 20;

/// The text with everything filled in.
pub(super) fn expand(text: &str, names: &dyn Names) -> Result<String, Bad> {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    // One conversion without a name takes the names as a whole; there is nothing for a second one.
    let mut whole_taken = false;
    while let Some(c) = chars.get(at) {
        at += 1;
        if *c != '%' {
            out.push(*c);
            continue;
        }
        if chars.get(at) == Some(&'%') {
            out.push('%');
            at += 1;
            continue;
        }
        let spec = Spec::read(&chars, &mut at, names)?;
        let Some(conversion) = spec.conversion else { return Err(bad("incomplete format")) };
        let printed = match spec.value.clone() {
            Some(value) => spec.print(conversion, &value, at - 1)?,
            None if whole_taken => return Err(bad("not enough arguments for format string")),
            None => {
                whole_taken = true;
                spec.print_all(conversion, names, at - 1)?
            }
        };
        out += &printed;
        if out.len() > MAX_TEXT {
            return Err(bad("the text becomes longer than 1 MiB"));
        }
    }
    Ok(out)
}

fn bad(what: impl Into<String>) -> Bad {
    Bad::Format(what.into())
}

/// One conversion: what stands between `%` and its letter.
#[derive(Clone, Debug, Default)]
struct Spec {
    value: Option<Value>,
    left: bool,
    plus: bool,
    blank: bool,
    alternate: bool,
    zero: bool,
    width: usize,
    precision: Option<usize>,
    conversion: Option<char>,
}

impl Spec {
    fn read(chars: &[char], at: &mut usize, names: &dyn Names) -> Result<Self, Bad> {
        let mut spec = Self::default();
        if chars.get(*at) == Some(&'(') {
            let name = key(chars, at)?;
            spec.value = Some(names.value(&name).ok_or(Bad::Unknown(name))?);
        }
        while let Some(flag) = chars.get(*at) {
            match flag {
                '-' => spec.left = true,
                '+' => spec.plus = true,
                ' ' => spec.blank = true,
                '#' => spec.alternate = true,
                '0' => spec.zero = true,
                _ => break,
            }
            *at += 1;
        }
        spec.width = spec.size(chars, at, "width too big")?.unwrap_or(0);
        if chars.get(*at) == Some(&'.') {
            *at += 1;
            spec.precision = Some(spec.size(chars, at, "precision too big")?.unwrap_or(0));
        }
        if matches!(chars.get(*at), Some('h' | 'l' | 'L')) {
            *at += 1;
        }
        spec.conversion = chars.get(*at).copied();
        *at += 1;
        Ok(spec)
    }

    fn size(&self, chars: &[char], at: &mut usize, too_big: &str) -> Result<Option<usize>, Bad> {
        if chars.get(*at) == Some(&'*') {
            let what = if self.value.is_some() {
                "not enough arguments for format string"
            } else {
                "* wants int"
            };
            return Err(bad(what));
        }
        let mut size = None;
        while let Some(d) = chars.get(*at).and_then(|c| c.to_digit(10)) {
            let so_far: usize = size.unwrap_or(0);
            let d = usize::try_from(d).unwrap_or_default();
            size = Some(so_far * 10 + d);
            *at += 1;
            if size.is_some_and(|s| s > MAX_WIDTH) {
                return Err(bad(too_big));
            }
        }
        Ok(size)
    }

    fn print(&self, conversion: char, value: &Value, index: usize) -> Result<String, Bad> {
        let number = |kind: &str| match value {
            Value::Int(n) => Ok(*n),
            Value::Text(_) => {
                Err(bad(format!("%{conversion} format: {kind} is required, not str")))
            }
        };
        match conversion {
            's' | 'r' | 'a' => Ok(self.text(conversion, value)),
            'd' | 'i' | 'u' => Ok(self.integer(number("a real number")?, 10, conversion)),
            'o' => Ok(self.integer(number("an integer")?, 8, conversion)),
            'x' | 'X' => Ok(self.integer(number("an integer")?, 16, conversion)),
            'e' | 'E' | 'f' | 'F' | 'g' | 'G' => match value {
                Value::Int(n) => Ok(self.float(*n, conversion)),
                Value::Text(_) => Err(bad("must be real number, not str")),
            },
            'c' => self.character(value),
            other => Err(unsupported(other, index)),
        }
    }

    /// A conversion that names nothing gets all names with what they stand for.
    fn print_all(&self, conversion: char, names: &dyn Names, index: usize) -> Result<String, Bad> {
        match conversion {
            's' | 'r' | 'a' => {
                let one = |(name, value): (String, Value)| match value {
                    Value::Text(t) => format!("{}: {}", repr(&name), repr(&t)),
                    Value::Int(n) => format!("{}: {n}", repr(&name)),
                };
                let all: Vec<_> = names.all().into_iter().map(one).collect();
                Ok(self.pad(self.cut(&format!("{{{}}}", all.join(", ")))))
            }
            'd' | 'i' | 'u' => {
                Err(bad(format!("%{conversion} format: a real number is required, not dict")))
            }
            'o' | 'x' | 'X' => {
                Err(bad(format!("%{conversion} format: an integer is required, not dict")))
            }
            'e' | 'E' | 'f' | 'F' | 'g' | 'G' => Err(bad("must be real number, not dict")),
            'c' => Err(bad("%c requires int or char")),
            other => Err(unsupported(other, index)),
        }
    }

    fn text(&self, conversion: char, value: &Value) -> String {
        let text = match (value, conversion) {
            (Value::Int(n), _) => n.to_string(),
            (Value::Text(t), 's') => t.clone(),
            (Value::Text(t), 'a') => repr(t).chars().fold(String::new(), |mut out, c| {
                match u32::from(c) {
                    0..=0x7f => out.push(c),
                    code @ 0x80..=0xff => out += &format!("\\x{code:02x}"),
                    code @ 0x100..=0xffff => out += &format!("\\u{code:04x}"),
                    code => out += &format!("\\U{code:08x}"),
                }
                out
            }),
            (Value::Text(t), _) => repr(t),
        };
        self.pad(self.cut(&text))
    }

    fn character(&self, value: &Value) -> Result<String, Bad> {
        let c = match value {
            Value::Int(n) => u32::try_from(*n)
                .ok()
                .and_then(char::from_u32)
                .ok_or_else(|| bad("%c arg not in range(0x110000)"))?,
            Value::Text(t) => {
                let mut chars = t.chars();
                match (chars.next(), chars.next()) {
                    (Some(c), None) => c,
                    _ => return Err(bad("%c requires int or char")),
                }
            }
        };
        Ok(self.pad(c.to_string()))
    }

    fn integer(&self, n: Int, base: u32, conversion: char) -> String {
        let size = n.unsigned_abs();
        let mut digits = match (base, conversion) {
            (8, _) => format!("{size:o}"),
            (16, 'X') => format!("{size:X}"),
            (16, _) => format!("{size:x}"),
            _ => size.to_string(),
        };
        if let Some(least) = self.precision {
            digits = format!("{digits:0>least$}");
        }
        let prefix = match (self.alternate, conversion) {
            (true, 'o') => "0o",
            (true, 'x') => "0x",
            (true, 'X') => "0X",
            _ => "",
        };
        self.signed(n < 0, prefix, &digits)
    }

    fn float(&self, n: Int, conversion: char) -> String {
        let places = self.precision.unwrap_or(6);
        let size = n.unsigned_abs();
        let mut shown = match conversion {
            'f' | 'F' => fixed(&size.to_string(), places, self.alternate),
            'e' | 'E' => scientific(size, places, self.alternate),
            _ => general(size, places.max(1), self.alternate),
        };
        if conversion.is_uppercase() {
            shown = shown.to_uppercase();
        }
        self.signed(n < 0, "", &shown)
    }

    fn signed(&self, negative: bool, prefix: &str, digits: &str) -> String {
        let sign = match (negative, self.plus, self.blank) {
            (true, ..) => "-",
            (false, true, _) => "+",
            (false, false, true) => " ",
            (false, false, false) => "",
        };
        let taken = sign.len() + prefix.len();
        if self.zero && !self.left {
            let width = self.width.saturating_sub(taken);
            return format!("{sign}{prefix}{digits:0>width$}");
        }
        self.pad(format!("{sign}{prefix}{digits}"))
    }

    fn cut(&self, text: &str) -> String {
        text.chars().take(self.precision.unwrap_or(usize::MAX)).collect()
    }

    fn pad(&self, text: String) -> String {
        let width = self.width;
        if self.left { format!("{text:<width$}") } else { format!("{text:>width$}") }
    }
}

fn unsupported(c: char, index: usize) -> Bad {
    let code = u32::from(c);
    let shown = if (' '..='~').contains(&c) { c } else { '?' };
    bad(format!("unsupported format character '{shown}' (0x{code:x}) at index {index}"))
}

/// What stands in the parentheses, which may hold parentheses.
fn key(chars: &[char], at: &mut usize) -> Result<String, Bad> {
    *at += 1;
    let (start, mut depth) = (*at, 1);
    while let Some(c) = chars.get(*at) {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        *at += 1;
        if depth == 0 {
            return Ok(chars.iter().skip(start).take(*at - 1 - start).collect());
        }
    }
    Err(bad("incomplete format key"))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Few;

    impl Names for Few {
        fn value(&self, name: &str) -> Option<Value> {
            self.all().into_iter().find(|(n, _)| n == name).map(|(_, v)| v)
        }

        fn all(&self) -> Vec<(String, Value)> {
            vec![
                ("here".to_owned(), Value::Text("/etc".to_owned())),
                ("n".to_owned(), Value::Int(7)),
            ]
        }
    }

    fn done(text: &str) -> Result<String, String> {
        expand(text, &Few).map_err(|e| match e {
            Bad::Unknown(name) => format!("unknown {name}"),
            Bad::Format(what) => what,
        })
    }

    /// Each pair was printed by Python.
    #[test]
    fn every_conversion_prints_as_in_python() {
        for (text, want) in [
            ("%(here)s/a%%b", "/etc/a%b"),
            ("%(n)d %(n)02d %(n)3d %(n)-3d| %(n)+d %(n) d", "7 07   7 7  | +7  7"),
            ("%(n).3d %(n)x %(n)#o %(n)05X %(n)s %(n)r %(n)c", "007 7 0o7 00007 7 7 \x07"),
            ("%(n)f %(n).1f %(n)e %(n)g %(n)05.1f", "7.000000 7.0 7.000000e+00 7 007.0"),
            ("%(here)6s|%(here)-6s|%(here).2s %(here)r", "  /etc|/etc  |/e '/etc'"),
            ("%(n)hd %(n)ld %%", "7 7 %"),
            ("%s", "{'here': '/etc', 'n': 7}"),
        ] {
            assert_eq!(done(text).as_deref(), Ok(want), "{text}");
        }
    }

    #[test]
    fn what_is_no_format_is_told_in_pythons_words() {
        for (text, want) in [
            ("100%", "incomplete format"),
            ("worker@%h", "incomplete format"),
            ("%(here", "incomplete format key"),
            ("date +%Y", "unsupported format character 'Y' (0x59) at index 7"),
            ("%(here)d", "%d format: a real number is required, not str"),
            ("%(here)x", "%x format: an integer is required, not str"),
            ("%(nope)s", "unknown nope"),
            ("%(a(b)c)s", "unknown a(b)c"),
            ("%s %s", "not enough arguments for format string"),
            ("%d", "%d format: a real number is required, not dict"),
            ("%(n)99999d", "width too big"),
            ("%5%", "unsupported format character '%' (0x25) at index 2"),
            ("%*s", "* wants int"),
        ] {
            assert_eq!(done(text), Err(want.to_owned()), "{text}");
        }
    }
}
