//! Users by name or number.

use std::{ffi::CString, io};

use nix::unistd::{Uid, User, getgrouplist};

/// What a process is to become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Its primary group.
    pub gid: u32,
    /// All its groups.
    pub groups: Vec<u32>,
}

/// Looks a user up. A number without an entry in the user database is refused, as its group would be
/// a guess.
///
/// # Errors
/// When there is no such user.
pub fn identity(user: &str) -> io::Result<Identity> {
    let found = match user.parse::<u32>() {
        Ok(uid) => User::from_uid(Uid::from_raw(uid))?,
        Err(_) => User::from_name(user)?,
    };
    let found = found.ok_or_else(|| {
        io::Error::new(io::ErrorKind::NotFound, format!("there is no user {user}"))
    })?;
    let name = CString::new(found.name.as_str())?;
    let groups = getgrouplist(&name, found.gid)?.into_iter().map(nix::unistd::Gid::as_raw);
    Ok(Identity { uid: found.uid.as_raw(), gid: found.gid.as_raw(), groups: groups.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_name_and_by_number() {
        let root = identity("root").unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert!(root.groups.contains(&0));
        assert_eq!(identity("0").unwrap(), root);
    }

    #[test]
    fn an_unknown_user_is_an_error_that_names_it() {
        let e = identity("no-such-user").unwrap_err();
        assert!(e.to_string().contains("no-such-user"), "{e}");
        assert!(identity("4123456789").is_err());
    }
}
