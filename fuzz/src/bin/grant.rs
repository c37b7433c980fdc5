//! What comes on the standard input of `palisade access grant`: anything is a request or an error, and
//! what is a request can neither leave its place in JSON nor in a line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use palisade_types::grant::{GRANT_PARAMETERS, GrantRequest};

fuzz_target!(|input: &[u8]| {
    let Ok(request) = serde_json::from_slice::<GrantRequest>(input) else { return };
    let again = serde_json::to_vec(&request).expect("a request is JSON");
    assert_eq!(serde_json::from_slice::<GrantRequest>(&again).ok().as_ref(), Some(&request));
    for ((name, value), (other, _)) in request.parameters().iter().zip(GRANT_PARAMETERS) {
        assert_eq!(*name, other);
        assert!(value.chars().all(|c| c.is_ascii_graphic() || c == ' '), "{name}");
        assert!(!value.contains(['"', '\'', '\\', '$', '`']), "{name}");
    }
});
