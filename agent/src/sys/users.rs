//! Users by name or number.

use std::{ffi::CString, io};

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};

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

/// The owner of a file as `user` or `user:group`, by names or numbers; without group it is the user's
/// own.
///
/// # Errors
/// When there is no such user or group.
pub fn owner(text: &str) -> io::Result<(u32, u32)> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let user = identity(user)?;
    let Some(group) = group else { return Ok((user.uid, user.gid)) };
    let found = match group.parse::<u32>() {
        Ok(gid) => Group::from_gid(Gid::from_raw(gid))?,
        Err(_) => Group::from_name(group)?,
    };
    let found = found.ok_or_else(|| {
        io::Error::new(io::ErrorKind::NotFound, format!("there is no group {group}"))
    })?;
    Ok((user.uid, found.gid.as_raw()))
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

    #[test]
    fn an_owner_is_a_user_with_or_without_group() {
        assert_eq!(owner("root").unwrap(), (0, 0));
        assert_eq!(owner("root:daemon").unwrap(), (0, 1));
        assert_eq!(owner("0:1").unwrap(), (0, 1));
        let e = owner("root:no-such-group").unwrap_err();
        assert!(e.to_string().contains("no-such-group"), "{e}");
    }
}
