//! A bucket as a destination: what its URL and its keys in the configuration may say.

use crate::error::{Error, Result, Status};
use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct S3 {
    pub bucket: String,
    /// The root of the replica, without slashes at its ends; empty for that of the bucket.
    pub prefix: String,
    pub endpoint: String,
    pub region: String,
    pub url_style: UrlStyle,
    /// Whether the store is asked to keep what is there, and has to prove that it does.
    pub create_only: bool,
    pub lock: Option<Lock>,
    pub credentials: Credentials,
}

/// How long each object can be neither removed nor replaced, and by whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lock {
    pub period: Duration,
    pub mode: LockMode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LockMode {
    /// Who has a right of its own to it may lift a lock.
    Governance,
    /// Nobody can.
    Compliance,
}

/// Where the bucket's name stands in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UrlStyle {
    /// `https://host/bucket/key`
    Path,
    /// `https://bucket.host/key`
    VirtualHost,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Credentials {
    Environment,
    Keys { access_key_id: String, secret_access_key: Secret },
    File(PathBuf),
}

/// What is never shown.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("secret")
    }
}

/// Where the region is not said: the one that stores of one region call theirs.
pub(super) const REGION: &str = "us-east-1";

/// What is wrong with a value, and what to write instead.
pub(super) type Wrong = (String, &'static str);

impl S3 {
    /// A bucket whose store is AWS until something else is said.
    pub(super) fn new(bucket: &str, prefix: &str) -> Self {
        Self {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            endpoint: String::new(),
            region: REGION.to_owned(),
            url_style: UrlStyle::Path,
            create_only: true,
            lock: None,
            credentials: Credentials::Environment,
        }
    }

    /// Fills in what was left open: the endpoint follows the region, the style the endpoint.
    pub(super) fn complete(
        mut self,
        url_style: Option<UrlStyle>,
    ) -> std::result::Result<Self, Wrong> {
        if self.endpoint.is_empty() {
            let endpoint = format!("https://s3.{}.amazonaws.com", self.region);
            self.endpoint = check_endpoint(&endpoint)
                .map_err(|_| (format!("{:?} is no region of AWS", self.region), ENDPOINT))?;
        }
        self.url_style = url_style.unwrap_or_else(|| self.usual_style());
        match self.address().filter(|_| self.url_style == UrlStyle::VirtualHost) {
            Some(address) => {
                let cause = format!("{address} is an address, which has no virtual hosts");
                Err((cause, "leave url_style out, or set it to path"))
            }
            None => Ok(self),
        }
    }

    /// That of the endpoint, if it is not given by a name.
    fn address(&self) -> Option<Ipv4Addr> {
        let (_, rest) = self.endpoint.split_once("://")?;
        rest.split([':', '/']).next()?.parse().ok()
    }

    /// AWS asks for virtual hosts, which others have to be set up for. A certificate does not hold
    /// for a bucket with a dot in its name.
    fn usual_style(&self) -> UrlStyle {
        let host = self.endpoint.trim_end_matches('/');
        match host.ends_with(".amazonaws.com") && !self.bucket.contains('.') {
            true => UrlStyle::VirtualHost,
            false => UrlStyle::Path,
        }
    }

    /// `s3://BUCKET/PREFIX?endpoint=…&region=…`, without its scheme. Nothing in it is decoded.
    pub(super) fn parse(rest: &str, url: &str) -> Result<Self> {
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
        let wrong =
            |(cause, hint): Wrong| Error::new(Status::Usage, "destination", url, cause).hint(hint);
        let mut s3 = Self::new(
            check_bucket(bucket).map_err(wrong)?,
            check_prefix(prefix.trim_end_matches('/')).map_err(wrong)?,
        );
        let mut url_style = None;
        let mut seen = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            if seen.contains(&key) {
                return Err(wrong((format!("{key} stands twice"), "write it once")));
            }
            seen.push(key);
            match key {
                "endpoint" => s3.endpoint = check_endpoint(value).map_err(wrong)?,
                "region" => s3.region = check_region(value).map_err(wrong)?.to_owned(),
                "url_style" => url_style = Some(style(value).map_err(wrong)?),
                "create_only" => {
                    s3.create_only = match value {
                        "true" => true,
                        "false" => false,
                        _ => return Err(wrong((format!("create_only={value}"), BOOL))),
                    }
                }
                _ => return Err(wrong((format!("unknown parameter {key:?}"), PARAMETERS))),
            }
        }
        s3.complete(url_style).map_err(wrong)
    }
}

const ENDPOINT: &str = "name the store's endpoint too, such as https://s3.example.com";

const BOOL: &str = "write create_only=true or create_only=false";
const PARAMETERS: &str = "known here: endpoint, region, url_style, create_only; credentials come from \
                          AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";

/// As `parse` reads it.
impl fmt::Display for S3 {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { bucket, prefix, endpoint, region, .. } = self;
        let slash = if prefix.is_empty() { "" } else { "/" };
        write!(f, "s3://{bucket}{slash}{prefix}?endpoint={endpoint}&region={region}")?;
        match self.url_style {
            style if style == self.usual_style() => {}
            UrlStyle::Path => f.write_str("&url_style=path")?,
            UrlStyle::VirtualHost => f.write_str("&url_style=virtual-host")?,
        }
        f.write_str(if self.create_only { "" } else { "&create_only=false" })
    }
}

fn is_plain(text: &str, also: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || also.contains(c))
}

pub(super) fn check_bucket(name: &str) -> std::result::Result<&str, Wrong> {
    let edge = |c: char| !c.is_ascii_alphanumeric();
    if name.len() < 3
        || name.len() > 63
        || !is_plain(name, ".-_")
        || name.contains("..")
        || name.starts_with(edge)
        || name.ends_with(edge)
    {
        let hint = "write 3 to 63 letters, digits, '.', '_' and '-', as in s3://backups/shop";
        return Err((format!("{name:?} is no bucket's name"), hint));
    }
    Ok(name)
}

/// Keys of plain characters alone, so that every store and every URL spells them alike.
pub(super) fn check_prefix(prefix: &str) -> std::result::Result<&str, Wrong> {
    let part =
        |part: &str| !part.is_empty() && part != "." && part != ".." && is_plain(part, "._-");
    if prefix.len() > 512 || !(prefix.is_empty() || prefix.split('/').all(part)) {
        let hint = "use letters, digits, '.', '_', '-' and single slashes, none at the ends";
        return Err((format!("{prefix:?} is not fit to be a prefix"), hint));
    }
    Ok(prefix)
}

pub(super) fn check_endpoint(text: &str) -> std::result::Result<String, Wrong> {
    let hint = "write the URL of the store, such as https://s3.eu-west-1.amazonaws.com";
    let wrong = || (format!("{text:?} is not an endpoint"), hint);
    let rest = text.strip_prefix("https://").or(text.strip_prefix("http://")).ok_or_else(wrong)?;
    if rest.starts_with('[') {
        return Err((format!("{text:?}: addresses of IPv6 are not understood"), "give its name"));
    }
    let (authority, _) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = authority.split_once(':').unwrap_or((authority, "80"));
    let is_port = port.parse::<u16>().is_ok_and(|port| port > 0);
    if host.is_empty() || !is_port || !is_plain(host, ".-") || !is_plain(rest, ".-_~:/") {
        return Err(wrong());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

pub(super) fn check_region(text: &str) -> std::result::Result<&str, Wrong> {
    if text.is_empty() || text.len() > 64 || !is_plain(text, "-_") {
        let hint = "write the store's word for it, such as eu-west-1";
        return Err((format!("{text:?} is not a region"), hint));
    }
    Ok(text)
}

pub(super) fn lock_mode(text: &str) -> std::result::Result<LockMode, Wrong> {
    match text {
        "governance" => Ok(LockMode::Governance),
        "compliance" => Ok(LockMode::Compliance),
        _ => Err((format!("{text:?} is no mode of locks"), "write governance or compliance")),
    }
}

pub(super) fn style(text: &str) -> std::result::Result<UrlStyle, Wrong> {
    match text {
        "path" => Ok(UrlStyle::Path),
        "virtual-host" => Ok(UrlStyle::VirtualHost),
        _ => Err((format!("{text:?} is no style of URLs"), "write path or virtual-host")),
    }
}
