//! What a call failed of, in Supervisor's numbers and words.

use super::value::Value;

/// Supervisor's numbers of faults, which clients compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    UnknownMethod = 1,
    IncorrectParameters = 2,
    BadArguments = 3,
    SignatureUnsupported = 4,
    ShutdownState = 6,
    BadName = 10,
    BadSignal = 11,
    NoFile = 20,
    NotExecutable = 21,
    Failed = 30,
    AbnormalTermination = 40,
    SpawnError = 50,
    AlreadyStarted = 60,
    NotRunning = 70,
    /// Of one process among several for which all is well.
    Success = 80,
    AlreadyAdded = 90,
    StillRunning = 91,
    CantReread = 92,
}

impl Code {
    /// Supervisor's name of it, with which each text begins.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::UnknownMethod => "UNKNOWN_METHOD",
            Self::IncorrectParameters => "INCORRECT_PARAMETERS",
            Self::BadArguments => "BAD_ARGUMENTS",
            Self::SignatureUnsupported => "SIGNATURE_UNSUPPORTED",
            Self::ShutdownState => "SHUTDOWN_STATE",
            Self::BadName => "BAD_NAME",
            Self::BadSignal => "BAD_SIGNAL",
            Self::NoFile => "NO_FILE",
            Self::NotExecutable => "NOT_EXECUTABLE",
            Self::Failed => "FAILED",
            Self::AbnormalTermination => "ABNORMAL_TERMINATION",
            Self::SpawnError => "SPAWN_ERROR",
            Self::AlreadyStarted => "ALREADY_STARTED",
            Self::NotRunning => "NOT_RUNNING",
            Self::Success => "SUCCESS",
            Self::AlreadyAdded => "ALREADY_ADDED",
            Self::StillRunning => "STILL_RUNNING",
            Self::CantReread => "CANT_REREAD",
        }
    }

    /// The number, as a value.
    pub(super) fn value(self) -> Value {
        Value::Int(self as i64)
    }
}

/// A call that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) code: Code,
    pub(super) text: String,
}

impl Fault {
    /// A fault that needs no more words.
    pub(super) fn new(code: Code) -> Self {
        Self { code, text: code.name().to_owned() }
    }

    /// A fault about something.
    pub(super) fn about(code: Code, what: &str) -> Self {
        Self { code, text: format!("{}: {what}", code.name()) }
    }

    /// As a struct, which a fault is in an answer and within a `multicall`.
    pub(super) fn to_value(&self) -> Value {
        Value::members([
            ("faultCode", self.code.value()),
            ("faultString", Value::text(self.text.as_str())),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_reads_as_supervisors() {
        let fault = Fault::about(Code::NoFile, "can't find command '/x'");
        assert_eq!(fault.text, "NO_FILE: can't find command '/x'");
        assert_eq!(fault.code.value(), Value::Int(20));
        assert_eq!(Fault::new(Code::CantReread).text, "CANT_REREAD");
    }
}
