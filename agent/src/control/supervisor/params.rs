//! What a method was called with. What is missing or of the wrong kind is `INCORRECT_PARAMETERS`.

use super::{
    fault::{Code, Fault},
    methods::Told,
    value::Value,
};

/// The parameters of one call, as many as its method takes.
#[derive(Debug)]
pub(super) struct Params<'a>(&'a [Value]);

fn wrong() -> Fault {
    Fault::new(Code::IncorrectParameters)
}

impl<'a> Params<'a> {
    /// Checks that there are as many as the method takes.
    pub(super) fn of(told: &Told, values: &'a [Value]) -> Result<Self, Fault> {
        let most = told.types.len().saturating_sub(1);
        let least = most.saturating_sub(told.optional);
        if (least..=most).contains(&values.len()) { Ok(Self(values)) } else { Err(wrong()) }
    }

    /// A text.
    pub(super) fn text(&self, index: usize) -> Result<&'a str, Fault> {
        match self.0.get(index) {
            Some(Value::Text(text)) => Ok(text),
            _ => Err(wrong()),
        }
    }

    /// A text, or a number written out.
    pub(super) fn word(&self, index: usize) -> Result<String, Fault> {
        match self.0.get(index) {
            Some(Value::Int(number)) => Ok(number.to_string()),
            _ => self.text(index).map(str::to_owned),
        }
    }

    /// A whole number, also as text.
    pub(super) fn int(&self, index: usize) -> Result<i64, Fault> {
        match self.0.get(index) {
            Some(Value::Int(number)) => Ok(*number),
            Some(Value::Text(text)) => text.trim().parse().map_err(|_| wrong()),
            _ => Err(wrong()),
        }
    }

    /// Whether to wait: true if left out, and by Python's idea of truth for what is no boolean.
    pub(super) fn wait(&self, index: usize) -> bool {
        match self.0.get(index) {
            None => true,
            Some(Value::Bool(b)) => *b,
            Some(Value::Int(number)) => *number != 0,
            Some(Value::Double(number)) => *number != 0.0,
            Some(Value::Text(text) | Value::Time(text)) => !text.is_empty(),
            Some(Value::Array(values)) => !values.is_empty(),
            Some(Value::Struct(members)) => !members.is_empty(),
            Some(Value::Nil) => false,
        }
    }

    /// An array.
    pub(super) fn array(&self, index: usize) -> Result<&'a [Value], Fault> {
        match self.0.get(index) {
            Some(Value::Array(values)) => Ok(values),
            _ => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::supervisor::methods::find;

    #[test]
    fn the_number_of_parameters_is_checked() {
        let start = find("supervisor.startProcess").unwrap();
        let name = Value::text("web");
        let given = |n: usize| vec![name.clone(); n];
        let fits: Vec<_> = (0..4).map(|n| Params::of(start, &given(n)).is_ok()).collect();
        assert_eq!(fits, [false, true, true, false]);
    }

    #[test]
    fn numbers_may_be_text_and_text_may_not_be_anything() {
        let values = [Value::text("-5"), Value::Int(7), Value::Bool(false), Value::text("x")];
        let params = Params(&values);
        assert_eq!((params.int(0), params.int(1)), (Ok(-5), Ok(7)));
        assert_eq!((params.int(2), params.int(3)), (Err(wrong()), Err(wrong())));
        assert_eq!((params.word(1), params.text(1)), (Ok("7".to_owned()), Err(wrong())));
        assert_eq!((params.wait(2), params.wait(3), params.wait(9)), (false, true, true));
    }
}
