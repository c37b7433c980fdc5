//! Signatures of requests and of the data channel's opening.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};

use super::CloudError;

/// One thing to sign.
#[derive(Debug)]
pub(crate) struct Signable<'a> {
    pub(crate) method: &'a str,
    pub(crate) url: &'a str,
    pub(crate) headers: &'a [(&'static str, String)],
    pub(crate) body: &'a [u8],
    pub(crate) service: &'a str,
    pub(crate) region: &'a str,
}

/// Headers that sign it.
pub(crate) fn headers(
    request: &Signable<'_>,
    credentials: Credentials,
    now: SystemTime,
) -> Result<Vec<(String, String)>, CloudError> {
    let fail = |e: &dyn std::error::Error| CloudError::Sign(crate::chain(e));
    let identity = credentials.into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(request.region)
        .name(request.service)
        .time(now)
        .settings(SigningSettings::default())
        .build()
        .map_err(|e| fail(&e))?
        .into();
    let headers = request.headers.iter().map(|(name, value)| (*name, value.as_str()));
    let body = SignableBody::Bytes(request.body);
    let signable =
        SignableRequest::new(request.method, request.url, headers, body).map_err(|e| fail(&e))?;
    let (made, _) = sign(signable, &params).map_err(|e| fail(&e))?.into_parts();
    Ok(made.headers().map(|(n, v)| (n.to_owned(), v.to_owned())).collect())
}

/// Headers that sign the opening of a WebSocket at `url`: only the host, the date and the session
/// token are signed, as the service wants it.
pub(crate) fn upgrade(
    url: &str,
    region: &str,
    credentials: Credentials,
    now: SystemTime,
) -> Result<Vec<(String, String)>, CloudError> {
    // The signature does not know WebSocket's schemes; they stand for those of HTTP.
    let http = url.replacen("ws", "http", usize::from(url.starts_with("ws")));
    let request = Signable {
        method: "GET",
        url: &http,
        headers: &[],
        body: &[],
        service: "ssmmessages",
        region,
    };
    headers(&request, credentials, now)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_opening_of_a_channel_signs_the_host_the_date_and_the_token_only() {
        let token = Some("tok".to_owned());
        let credentials = Credentials::new("AKIDEXAMPLE", "secret", token, None, "test");
        let url =
            "wss://ssmmessages.us-east-1.amazonaws.com/v1/data-channel/s-1?role=publish_subscribe";
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_440_938_160);
        let made = upgrade(url, "us-east-1", credentials, now).unwrap();
        let get = |name: &str| &made.iter().find(|(n, _)| n == name).unwrap().1;
        let authorization = get("authorization");
        assert!(
            authorization.contains("/20150830/us-east-1/ssmmessages/aws4_request")
                && authorization.contains("SignedHeaders=host;x-amz-date;x-amz-security-token,"),
            "{authorization}"
        );
        assert_eq!(
            (get("x-amz-date").as_str(), get("x-amz-security-token").as_str()),
            ("20150830T123600Z", "tok")
        );
    }
}
