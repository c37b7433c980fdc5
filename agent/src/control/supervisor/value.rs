//! Values of XML-RPC.

/// A value of a request or of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// `int`, `i4` or `i8`.
    Int(i64),
    /// `boolean`.
    Bool(bool),
    /// `string`, or `base64` that was text.
    Text(String),
    /// `double`.
    Double(f64),
    /// `dateTime.iso8601`, as written: no method takes one.
    Time(String),
    /// `array`.
    Array(Vec<Value>),
    /// `struct`, in its order.
    Struct(Vec<(String, Value)>),
    /// `nil`, which is an extension.
    Nil,
}

impl Value {
    /// Text.
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// A struct of these members.
    pub(super) fn members<const N: usize>(members: [(&str, Self); N]) -> Self {
        Self::Struct(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    /// About how many bytes it takes.
    pub(super) fn weight(&self) -> u64 {
        let held = match self {
            Self::Text(text) | Self::Time(text) => text.len() as u64,
            Self::Array(values) => values.iter().map(Self::weight).sum(),
            Self::Struct(members) => {
                members.iter().map(|(name, value)| name.len() as u64 + value.weight()).sum()
            }
            Self::Int(_) | Self::Bool(_) | Self::Double(_) | Self::Nil => 0,
        };
        held + size_of::<Self>() as u64
    }

    /// A member of a struct.
    pub(super) fn member(&self, name: &str) -> Option<&Self> {
        match self {
            // The last one of a name counts, as in Supervisor.
            Self::Struct(members) => {
                members.iter().rev().find(|(n, _)| n == name).map(|(_, value)| value)
            }
            Self::Int(_)
            | Self::Bool(_)
            | Self::Text(_)
            | Self::Double(_)
            | Self::Time(_)
            | Self::Array(_)
            | Self::Nil => None,
        }
    }
}
