//! Short-lived access with a real sshd, a real ssh, and a real agent: who gets in, for how long, and who
//! does not.
#![expect(clippy::unwrap_used, reason = "allow-unwrap-in-tests covers test functions, not helpers")]
#![expect(clippy::disallowed_methods, reason = "tests start programs and use the real time")]
#![expect(clippy::print_stdout, reason = "a test says why it is skipped")]

mod binding;
mod ending;
mod helper;
mod lab;
mod limits;

/// Ends a test that cannot run here, and says why.
macro_rules! needs_sshd {
    () => {
        if let Some(why) = crate::lab::missing() {
            println!("skipped: {why}");
            return;
        }
    };
}
pub(crate) use needs_sshd;
