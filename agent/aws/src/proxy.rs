//! The proxy between this host and AWS, from the environment as every AWS tool reads it.
//!
//! Only what is encrypted goes through it: an endpoint of AWS is `https`. Plain `http` is the
//! metadata service, a container's credentials or a test, which are on this host or its link, and
//! whose answers hold secrets that a proxy must not read. So `NO_PROXY` need not name them.

use aws_smithy_http_client::proxy::ProxyConfig;

/// Variables that name the proxy, in the order in which they are asked. `HTTP_PROXY` is not one: it
/// is for what is not encrypted.
const NAMES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
/// Variables with the names and networks that are reached without it.
const EXCEPT: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// A variable whose value is no proxy. The value is not told: it may hold a password.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not the URL of a proxy")]
pub struct ProxyError(pub(crate) &'static str);

/// The proxy that the environment `var` names, or none.
pub(crate) fn from_env(var: impl Fn(&str) -> Option<String>) -> Result<ProxyConfig, ProxyError> {
    let first = |names: &[&'static str]| {
        names.iter().find_map(|name| Some((*name, var(name).filter(|value| !value.is_empty())?)))
    };
    let Some((name, value)) = first(&NAMES) else {
        return Ok(ProxyConfig::disabled());
    };
    // As curl has it.
    let url = if value.contains("://") { value } else { format!("http://{value}") };
    // Parsed twice: the client's own parser takes `proxy:port` and fails at each request.
    let parsed = reqwest::Url::parse(&url).map_err(|_| ProxyError(name))?;
    let proxy = ProxyConfig::https(parsed.as_str()).map_err(|_| ProxyError(name))?;
    Ok(match first(&EXCEPT) {
        Some((_, except)) => proxy.no_proxy(except),
        None => proxy,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(vars: &[(&str, &str)]) -> Result<bool, ProxyError> {
        let var = |name: &str| {
            vars.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
        };
        from_env(var).map(|proxy| !proxy.is_disabled())
    }

    #[test]
    fn the_first_variable_that_says_something_names_the_proxy() {
        assert_eq!(read(&[]), Ok(false));
        assert_eq!(read(&[("HTTPS_PROXY", "")]), Ok(false));
        assert_eq!(read(&[("HTTP_PROXY", "http://p:3128")]), Ok(false));
        assert_eq!(
            read(&[("https_proxy", "http://p:3128"), ("NO_PROXY", "a,10.0.0.0/8")]),
            Ok(true)
        );
        assert_eq!(read(&[("HTTPS_PROXY", ""), ("ALL_PROXY", "p:3128")]), Ok(true));
        assert_eq!(read(&[("HTTPS_PROXY", "http://user:word@p:3128")]), Ok(true));
    }

    #[test]
    fn what_is_no_proxy_is_an_error_without_the_value() {
        for bad in ["socks5://user:word@p:1080", "http://", "http://user:word@ p", "p:port"] {
            let error = read(&[("HTTPS_PROXY", bad)]).unwrap_err();
            assert_eq!(error, ProxyError("HTTPS_PROXY"), "{bad}");
            assert!(!format!("{error} {error:?}").contains("word"));
        }
    }
}
