//! Credentials and region as every AWS tool finds them: environment, profiles, SSO, a credential
//! process, roles, instance metadata. Invariant: a profile that was asked for is the one that is
//! used, whatever the environment holds, and a role is taken under the same name by every run.

use aws_config::{
    BehaviorVersion, Region, SdkConfig,
    environment::EnvironmentVariableRegionProvider,
    meta::region::RegionProviderChain,
    profile::{ProfileFileCredentialsProvider, ProfileFileRegionProvider},
    provider_config::ProviderConfig,
    retry::RetryConfig,
};
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, rustls_provider::CryptoMode},
};

use super::{AwsSettings, mfa};

pub(crate) async fn load(tool: &str, settings: &AwsSettings, profile: Option<&str>) -> SdkConfig {
    let http = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let user = std::env::var("USER").unwrap_or_default();
    let name = profile.unwrap_or("default");
    let named = if mfa::has_unnamed_role(name) { role_name(tool, name, &user) } else { None };
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http.clone())
        .profile_files(files(named.clone()))
        .retry_config(RetryConfig::standard().with_max_attempts(3));
    let mut region = settings.region.clone().map(Region::new);
    if let Some(profile) = &settings.profile {
        let provider = ProviderConfig::without_region().with_http_client(http);
        if region.is_none() {
            // Where neither says one, the loader below looks further.
            let said = ProfileFileRegionProvider::builder()
                .configure(&provider)
                .profile_name(profile)
                .build();
            let chain = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new());
            region = chain.or_else(said).region().await;
        }
        // The default chain would take keys of the environment first.
        let provider = ProfileFileCredentialsProvider::builder()
            .configure(&provider.with_region(region.clone()))
            .profile_files(files(named))
            .profile_name(profile)
            .build();
        loader = loader.profile_name(profile).credentials_provider(provider);
    }
    if let Some(region) = region {
        loader = loader.region(region);
    }
    loader.load().await
}

/// The files of every AWS tool, and what this one adds in memory.
fn files(added: Option<String>) -> EnvConfigFiles {
    let files = EnvConfigFiles::builder()
        .include_default_config_file(true)
        .include_default_credentials_file(true);
    match added {
        Some(text) => files.with_contents(EnvConfigFileKind::Config, text).build(),
        None => files.build(),
    }
}

/// A name for sessions of the profile's role. Without one the SDK makes another name for each run,
/// and to the hosts each run would be another owner of grants.
fn role_name(tool: &str, profile: &str, user: &str) -> Option<String> {
    // A profile of another name cannot stand in a section's head, and the SDK does not know it.
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-/.%@:+".contains(c);
    if profile.is_empty() || !profile.chars().all(plain) {
        return None;
    }
    let good = |c: &char| c.is_ascii_alphanumeric() || "_+=,.@-".contains(*c);
    let user: String = user.chars().filter(good).take(48).collect();
    let dash = if user.is_empty() { "" } else { "-" };
    Some(format!("[profile {profile}]\nrole_session_name = {tool}{dash}{user}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_roles_session_has_the_users_name_and_nothing_that_ends_a_line() {
        let text = |profile, user| role_name("bastionctl", profile, user).unwrap_or_default();
        let prod = "[profile prod]\nrole_session_name = bastionctl-alice\n";
        assert_eq!(text("prod", "alice"), prod);
        assert_eq!(text("prod", "al\nice "), prod);
        assert!(text("default", "").ends_with("= bastionctl\n"));
        assert_eq!(role_name("bastionctl", "a]\n[b", "alice"), None);
    }
}
