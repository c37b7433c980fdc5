//! Where a service is: as said on the command line, in the environment or in the profile, else at
//! AWS's own names. Pure.

use std::net::IpAddr;

/// What chooses among AWS's names.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Names {
    pub(crate) fips: bool,
    pub(crate) dual_stack: bool,
}

/// What AWS's own names end in.
const SUFFIXES: [&str; 4] =
    [".amazonaws.com", ".amazonaws.com.cn", ".api.aws", ".api.amazonwebservices.com.cn"];

/// The URL of `service`, without a slash at its end. `said` in order of precedence.
pub(crate) fn url(service: &str, region: &str, names: Names, said: &[Option<String>]) -> String {
    let said = said.iter().flatten().find(|url| !url.is_empty());
    match said {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => standard(service, region, names),
    }
}

/// Whether a URL is one of AWS's own.
pub(crate) fn is_aws(url: &str) -> bool {
    host(url).is_some_and(|host| SUFFIXES.iter().any(|suffix| host.ends_with(suffix)))
}

/// Whether a URL is of this machine.
pub(crate) fn is_loopback(url: &str) -> bool {
    host(url).is_some_and(|host| {
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
        host == "localhost" || address.is_ok_and(|a| a.is_loopback())
    })
}

/// The host of a URL as the client that sends understands it: in small letters, without a user.
fn host(url: &str) -> Option<String> {
    let url = reqwest::Url::parse(url).ok()?;
    url.host_str().map(|host| host.trim_end_matches('.').to_owned())
}

fn standard(service: &str, region: &str, names: Names) -> String {
    let china = region.starts_with("cn-");
    let fips = if names.fips { "-fips" } else { "" };
    let suffix = match (names.dual_stack, china) {
        (false, false) => "amazonaws.com",
        (false, true) => "amazonaws.com.cn",
        (true, false) => "api.aws",
        (true, true) => "api.amazonwebservices.com.cn",
    };
    format!("https://{service}{fips}.{region}.{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_first_wins_and_aws_names_follow_the_region() {
        let none = Names::default();
        let said = [None, Some(String::new()), Some("http://127.0.0.1:1/".into())];
        assert_eq!(url("ssm", "us-east-1", none, &said), "http://127.0.0.1:1");
        assert_eq!(url("ssm", "us-east-1", none, &[None]), "https://ssm.us-east-1.amazonaws.com");
        assert_eq!(url("sts", "cn-north-1", none, &[]), "https://sts.cn-north-1.amazonaws.com.cn");
        let both = Names { fips: true, dual_stack: true };
        assert_eq!(url("ec2", "eu-west-1", both, &[]), "https://ec2-fips.eu-west-1.api.aws");
    }

    #[test]
    fn only_this_machine_is_no_way_to_aws_and_letters_are_all_one() {
        for (url, aws, here) in [
            ("https://cloudformation.eu-west-1.amazonaws.com", true, false),
            ("https://CloudFormation.EU-WEST-1.AmazonAWS.com:443/", true, false),
            ("https://cloudformation.eu-west-1.amazonaws.com./", true, false),
            ("https://127.0.0.1@cloudformation.eu-west-1.amazonaws.com/", true, false),
            ("https://aws-proxy.corp.example", false, false),
            ("https://127.0.0.1.example", false, false),
            ("http://10.0.0.1:4566", false, false),
            ("http://127.0.0.1:4566", false, true),
            ("http://[::1]:4566/", false, true),
            ("http://LOCALHOST:4566", false, true),
            ("no url", false, false),
        ] {
            assert_eq!((is_aws(url), is_loopback(url)), (aws, here), "{url}");
        }
    }
}
