//! Signature version 4, checked: what a service does with the `Authorization` header of a request,
//! or with the `X-Amz-*` pairs of a signed address.
//!
//! Pure: takes the parts of a request, the secret and the time. Who has which secret is `keys`.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// How far a request's date may be from the service's, in seconds.
pub const SKEW_S: i64 = 300;
const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// The parts of a request that a signature covers.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// `GET`, `POST`.
    pub method: &'a str,
    /// As it stands in the request line.
    pub path: &'a str,
    /// As it stands in the request line, without the question mark.
    pub query: &'a str,
    /// All headers, names in lower case, in the order they came.
    pub headers: &'a [(String, String)],
    /// The body.
    pub body: &'a [u8],
}

/// What a request says about its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Which key signed.
    pub access_key: String,
    /// `YYYYMMDD/region/service/aws4_request`.
    pub scope: String,
    /// Region of the scope.
    pub region: String,
    /// Service of the scope.
    pub service: String,
    /// `YYYYMMDDTHHMMSSZ`.
    pub date: String,
    /// Seconds that a signed address is good for; none if the header is signed.
    pub expires_s: Option<i64>,
    /// The session token, if one came.
    pub token: Option<String>,
    signed: Vec<String>,
    signature: String,
}

/// Why a signature is not accepted, in the order the checks are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is none.
    Missing,
    /// It cannot be read, or leaves out what must be signed.
    Incomplete(String),
    /// The scope is another region's, service's or day's.
    Scope(String),
    /// Too old or too new.
    Skew(String),
    /// It is not what the secret gives.
    Mismatch,
}

/// All headers as [`Parts`] has them.
#[must_use]
pub fn headers(head: &http::request::Parts) -> Vec<(String, String)> {
    let text = |v: &http::HeaderValue| String::from_utf8_lossy(v.as_bytes()).into_owned();
    head.headers.iter().map(|(n, v)| (n.as_str().to_owned(), text(v))).collect()
}

impl<'a> Parts<'a> {
    /// Those of a request that came.
    #[must_use]
    pub fn of(
        head: &'a http::request::Parts,
        headers: &'a [(String, String)],
        body: &'a [u8],
    ) -> Self {
        let (path, query) = (head.uri.path(), head.uri.query().unwrap_or(""));
        Self { method: head.method.as_str(), path, query, headers, body }
    }
}

impl Parts<'_> {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// What the request says about its signature.
    ///
    /// # Errors
    /// When there is none or it cannot be read.
    pub fn claim(&self) -> Result<Claim, Refusal> {
        let pairs = pairs(self.query);
        let query = |name: &str| pairs.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
        let incomplete = |what: &str| Refusal::Incomplete(what.to_owned());
        let (credential, signed, signature, date, expires, token);
        if let Some(text) = self.header("authorization") {
            let rest = text.strip_prefix(ALGORITHM).ok_or_else(|| incomplete("algorithm"))?;
            let field = |name: &str| {
                rest.split(',')
                    .find_map(|f| f.trim().strip_prefix(name)?.strip_prefix('='))
                    .map(str::to_owned)
                    .ok_or_else(|| Refusal::Incomplete(format!("Authorization has no {name}")))
            };
            credential = field("Credential")?;
            signed = field("SignedHeaders")?;
            signature = field("Signature")?;
            date = self.header("x-amz-date").map(str::to_owned);
            expires = None;
            token = self.header("x-amz-security-token").map(str::to_owned);
        } else if query("X-Amz-Algorithm").as_deref() == Some(ALGORITHM) {
            let field = |name: &str| {
                query(name).ok_or_else(|| Refusal::Incomplete(format!("address has no {name}")))
            };
            credential = field("X-Amz-Credential")?;
            signed = field("X-Amz-SignedHeaders")?;
            signature = field("X-Amz-Signature")?;
            date = query("X-Amz-Date");
            let text = field("X-Amz-Expires")?;
            expires = Some(text.parse().map_err(|_| incomplete("X-Amz-Expires"))?);
            token = query("X-Amz-Security-Token");
        } else {
            return Err(Refusal::Missing);
        }
        let (access_key, scope) =
            credential.split_once('/').ok_or_else(|| incomplete("credential has no scope"))?;
        let parts: Vec<_> = scope.split('/').collect();
        let [_, region, service, "aws4_request"] = parts[..] else {
            return Err(incomplete("scope is not date/region/service/aws4_request"));
        };
        Ok(Claim {
            access_key: access_key.to_owned(),
            scope: scope.to_owned(),
            region: region.to_owned(),
            service: service.to_owned(),
            date: date.ok_or_else(|| incomplete("no X-Amz-Date"))?,
            expires_s: expires,
            token,
            signed: signed.split(';').map(str::to_owned).collect(),
            signature,
        })
    }

    /// Checks `claim` with the secret of its key, at `now` seconds since the epoch.
    ///
    /// # Errors
    /// Says which check failed.
    pub fn verify(&self, claim: &Claim, secret: &str, now: i64) -> Result<(), Refusal> {
        let at = seconds(&claim.date)
            .ok_or_else(|| Refusal::Incomplete(format!("date {:?}", claim.date)))?;
        let day = claim.date.get(..8).unwrap_or("");
        if !claim.scope.starts_with(&format!("{day}/")) {
            return Err(Refusal::Scope("Date in Credential scope does not match".to_owned()));
        }
        let good_for = claim.expires_s.unwrap_or(SKEW_S);
        if at + good_for.max(0) < now {
            return Err(Refusal::Skew(format!("Signature expired: {} is too old", claim.date)));
        }
        if at - SKEW_S > now {
            return Err(Refusal::Skew(format!("Signature not yet current: {}", claim.date)));
        }
        if !claim.signed.iter().any(|h| h == "host") {
            return Err(Refusal::Incomplete("host is not signed".to_owned()));
        }
        if claim.signed.windows(2).any(|w| w[0] >= w[1]) {
            return Err(Refusal::Incomplete("signed headers are not sorted".to_owned()));
        }
        let loose =
            self.headers.iter().find(|(n, _)| n.starts_with("x-amz-") && !claim.signed.contains(n));
        if let Some((name, _)) = loose {
            return Err(Refusal::Incomplete(format!("{name} is not signed")));
        }
        let canonical = self.canonical(claim)?;
        let to_sign = format!(
            "{ALGORITHM}\n{}\n{}\n{}",
            claim.date,
            claim.scope,
            hex(&Sha256::digest(canonical.as_bytes()))
        );
        let mut key = hmac(format!("AWS4{secret}").as_bytes(), day.as_bytes());
        for part in [&claim.region, &claim.service, "aws4_request"] {
            key = hmac(&key, part.as_bytes());
        }
        let good = hex(&hmac(&key, to_sign.as_bytes())) == claim.signature;
        if good { Ok(()) } else { Err(Refusal::Mismatch) }
    }

    fn canonical(&self, claim: &Claim) -> Result<String, Refusal> {
        let mut query: Vec<_> = pairs(self.query)
            .into_iter()
            .filter(|(n, _)| n != "X-Amz-Signature")
            .map(|(n, v)| (encode(&n, false), encode(&v, false)))
            .collect();
        query.sort();
        let query: Vec<_> = query.iter().map(|(n, v)| format!("{n}={v}")).collect();
        let mut headers = String::new();
        for name in &claim.signed {
            let values: Vec<_> = self
                .headers
                .iter()
                .filter(|(n, _)| n == name)
                .map(|(_, v)| v.split_whitespace().collect::<Vec<_>>().join(" "))
                .collect();
            if values.is_empty() {
                return Err(Refusal::Incomplete(format!("signed header {name} did not come")));
            }
            headers.push_str(&format!("{name}:{}\n", values.join(",")));
        }
        let mut hash = hex(&Sha256::digest(self.body));
        if let Some(said) = self.header("x-amz-content-sha256") {
            if said != hash && said != "UNSIGNED-PAYLOAD" {
                return Err(Refusal::Incomplete(
                    "x-amz-content-sha256 is not the body's".to_owned(),
                ));
            }
            hash = said.to_owned();
        }
        Ok(format!(
            "{}\n{}\n{}\n{headers}\n{}\n{hash}",
            self.method,
            path(self.path),
            query.join("&"),
            claim.signed.join(";")
        ))
    }
}

/// The path of the canonical request: without dots and doubled slashes, encoded once more.
fn path(raw: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for part in raw.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(kept.pop()),
            other => kept.push(other),
        }
    }
    let mut out = format!("/{}", kept.join("/"));
    if raw.ends_with('/') && out.len() > 1 {
        out.push('/');
    }
    encode(&out, true)
}

/// The pairs of a query or a form, decoded.
#[must_use]
pub fn pairs(query: &str) -> Vec<(String, String)> {
    let split = |p: &str| match p.split_once('=') {
        Some((n, v)) => (decode(n), decode(v)),
        None => (decode(p), String::new()),
    };
    query.split('&').filter(|p| !p.is_empty()).map(split).collect()
}

fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        let mut digits = bytes.clone();
        let mut digit = || digits.next().and_then(|d| char::from(d).to_digit(16));
        match (b, (b == b'%').then(|| digit().zip(digit())).flatten()) {
            (_, Some((high, low))) => {
                out.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                bytes = digits;
            }
            (b'+', None) => out.push(b' '),
            (b, None) => out.push(b),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn encode(text: &str, slashes_stay: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        let plain = b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
        if plain || (slashes_stay && b == b'/') {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}

/// HMAC-SHA-256.
#[must_use]
pub fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let mut block = [0_u8; 64];
    if key.len() > block.len() {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let pad = |with: u8| block.map(|b| b ^ with);
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().into()
}

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, b| {
        write!(out, "{b:02x}").unwrap_or_default();
        out
    })
}

/// Seconds since the epoch of `YYYYMMDDTHHMMSSZ`.
fn seconds(date: &str) -> Option<i64> {
    let bytes = date.as_bytes();
    if bytes.len() != 16 || bytes[8] != b'T' || bytes[15] != b'Z' {
        return None;
    }
    let number = |from: usize, to: usize| date.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Days since the epoch in the proleptic Gregorian calendar, counted from March.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    Some(days * 86_400 + number(9, 11)? * 3600 + number(11, 13)? * 60 + number(13, 15)?)
}

#[cfg(test)]
mod tests;
