//! Where a service is: as said on the command line, in the environment or in the profile, else at
//! AWS's own names. Pure.

/// What chooses among AWS's names.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Names {
    pub(crate) fips: bool,
    pub(crate) dual_stack: bool,
}

/// What AWS's own names end in.
pub(crate) const SUFFIXES: [&str; 4] =
    [".amazonaws.com", ".amazonaws.com.cn", ".api.aws", ".api.amazonwebservices.com.cn"];

/// The URL of `service`, without a slash at its end. `said` in order of precedence.
pub(crate) fn url(service: &str, region: &str, names: Names, said: &[Option<String>]) -> String {
    let said = said.iter().flatten().find(|url| !url.is_empty());
    match said {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => standard(service, region, names),
    }
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
}
