//! AWS: a user's access key signs one request for a role's session, which are three values that end by themselves.
//!
//! Described by the vendor in "AssumeRole" and "Signature Version 4". A session cannot be ended before its time, and lives
//! for 15 minutes at least: the record and the page say so.

use super::plan::call;
use super::value::{Kept, Minted, Said, moment, sendable};
use api::grants::WireSecret;
use api::platform::{CallCredential, CredentialForm, Method, PlatformCall, Purpose};
use aws_lc_rs::{digest, hmac};
use model::mint::AwsRole;
use model::{Moment, RunId, Secret};
use serde_json::Value;
use url::{Url, form_urlencoded};

/// The form that requests have.
const FORM: &str = "application/x-www-form-urlencoded";

/// The token service's address.
fn base(role: &AwsRole) -> String {
    role.base.clone().unwrap_or_else(|| format!("https://sts.{}.amazonaws.com/", role.region))
}

/// The session policy, with the lease's destination in the place of `{destination}`.
fn policy(text: &str, destination: &str) -> Result<String, String> {
    fn fill(value: &mut Value, destination: &str) {
        match value {
            Value::String(text) => *text = text.replace("{destination}", destination),
            Value::Array(all) => all.iter_mut().for_each(|one| fill(one, destination)),
            Value::Object(all) => all.values_mut().for_each(|one| fill(one, destination)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    let mut policy: Value = serde_json::from_str(text).map_err(|_| "the session policy is no JSON".to_owned())?;
    fill(&mut policy, destination);
    Ok(policy.to_string())
}

/// Whether the session policy can be one.
///
/// # Errors
/// One sentence.
pub(super) fn check(role: &AwsRole) -> Result<(), String> {
    role.policy.as_deref().map_or(Ok(()), |text| policy(text, "x").map(drop)).map_err(|why| format!("{why}."))
}

/// The request for a session.
///
/// # Errors
/// One sentence.
pub(super) fn request(
    role: &AwsRole,
    key: &Secret<String>,
    (run, destination, seconds): (&RunId, &str, u32),
    at: Moment,
) -> Result<PlatformCall, String> {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("Action", "AssumeRole").append_pair("Version", "2011-06-15");
    form.append_pair("RoleArn", &role.role).append_pair("RoleSessionName", &format!("volary-{run}"));
    form.append_pair("DurationSeconds", &seconds.to_string());
    if let Some(text) = &role.policy {
        form.append_pair("Policy", &policy(text, destination)?);
    }
    let body = form.finish();
    let mut call = call(Purpose::Mint, Method::Post, base(role), role.internal)?;
    let url = Url::parse(&call.url).map_err(|_| "the token service's address is no URL".to_owned())?;
    let host = match url.port() {
        Some(port) => format!("{}:{port}", url.host_str().unwrap_or_default()),
        None => url.host_str().unwrap_or_default().to_owned(),
    };
    let time = stamp(at)?;
    let who = Signer { id: &role.access_key, key, region: &role.region, service: "sts" };
    let signature = who.sign(&host, url.path(), &time, &body);
    call.headers = vec![("content-type".into(), FORM.into()), ("x-amz-date".into(), time)];
    call.body = Some(WireSecret(Secret::new(body)));
    let value = WireSecret(Secret::new(signature));
    call.credential = Some(CallCredential { form: CredentialForm::Signature, value, secret: "signature".into() });
    Ok(call)
}

/// The moment as a signature has it: `20260102T030405Z`.
fn stamp(at: Moment) -> Result<String, String> {
    let time = jiff::Timestamp::from_millisecond(at.0).map_err(|_| "the clock is wrong".to_owned())?;
    Ok(time.strftime("%Y%m%dT%H%M%SZ").to_string())
}

/// Who signs, and for which service.
struct Signer<'s> {
    id: &'s str,
    key: &'s Secret<String>,
    region: &'s str,
    service: &'s str,
}

impl Signer<'_> {
    /// The value of `Authorization`, for a form that is posted.
    fn sign(&self, host: &str, path: &str, time: &str, body: &str) -> String {
        const SIGNED: &str = "content-type;host;x-amz-date";
        let sha256 = |text: &str| hex(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
        let canonical = format!(
            "POST\n{path}\n\ncontent-type:{FORM}\nhost:{host}\nx-amz-date:{time}\n\n{SIGNED}\n{}",
            sha256(body)
        );
        let day = time.get(..8).unwrap_or_default();
        let scope = format!("{day}/{}/{}/aws4_request", self.region, self.service);
        let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", sha256(&canonical));
        let first = Secret::new(format!("AWS4{}", self.key.expose()).into_bytes());
        let mut key = hmac::Key::new(hmac::HMAC_SHA256, first.expose());
        for part in [day, self.region, self.service, "aws4_request"] {
            key = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref());
        }
        let signature = hex(hmac::sign(&key, text.as_bytes()).as_ref());
        format!("AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={SIGNED}, Signature={signature}", self.id)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The text of the first element of this name; none where it holds anything but text.
fn element<'b>(body: &'b str, name: &str) -> Option<&'b str> {
    let (_, rest) = body.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    (!text.contains(['<', '&'])).then(|| text.trim())
}

/// What an answer with status 200 holds.
pub(super) fn read(body: &Secret<String>) -> Said {
    let unknown = || Said::Unknown("The vendor's answer holds no session that can be read.".into());
    let Some((_, credentials)) = body.expose().split_once("<Credentials>") else { return unknown() };
    let part = |name| element(credentials, name);
    let (Some(id), Some(key), Some(session), Some(until)) =
        (part("AccessKeyId"), part("SecretAccessKey"), part("SessionToken"), part("Expiration"))
    else {
        return unknown();
    };
    let plain = id.bytes().all(|b| b.is_ascii_alphanumeric()) && !id.is_empty();
    let (key, session) = (Secret::new(key.to_owned()), Secret::new(session.to_owned()));
    let (Some(ends), true) = (moment(until), plain && sendable(&key) && sendable(&session)) else { return unknown() };
    let value =
        Minted::Aws { id: id.to_owned(), key: WireSecret(key), session: WireSecret(session), until: until.to_owned() };
    Said::Value { kept: Kept { value, end: None }, until: Some(ends) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_signed_as_the_vendors_own_example_is() {
        // `post-x-www-form-urlencoded` of the vendor's test suite.
        let key = Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned());
        let who = Signer { id: "AKIDEXAMPLE", key: &key, region: "us-east-1", service: "service" };
        let said = who.sign("example.amazonaws.com", "/", "20150830T123600Z", "Param1=value1");
        assert_eq!(
            said,
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date, \
             Signature=ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"
        );
        assert_eq!(stamp(Moment(1_440_938_160_999)).unwrap(), "20150830T123600Z");
    }

    fn role(policy: Option<&str>) -> AwsRole {
        AwsRole {
            access_key: "AKIAIOSFODNN7EXAMPLE".into(),
            role: "arn:aws:iam::123456789012:role/deploy".into(),
            region: "eu-central-1".into(),
            policy: policy.map(str::to_owned),
            base: None,
            internal: false,
        }
    }

    #[test]
    fn a_session_is_asked_for_with_its_time_and_a_policy_of_this_destination() {
        let key = Secret::new("canary-secret-access-key".to_owned());
        let policy =
            r#"{"Statement":[{"Effect":"Allow","Action":"s3:PutObject","Resource":"arn:aws:s3:::{destination}/*"}]}"#;
        let run = RunId::parse("r1").unwrap();
        let role = role(Some(policy));
        let call = request(&role, &key, (&run, "shop\"files", 900), Moment(1_440_938_160_000)).unwrap();
        assert_eq!((call.url.as_str(), call.named.port), ("https://sts.eu-central-1.amazonaws.com/", 443));
        let fields: Vec<(String, String)> =
            form_urlencoded::parse(call.body.as_ref().unwrap().0.expose().as_bytes()).into_owned().collect();
        let field = |name: &str| fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone()).unwrap();
        assert_eq!((field("DurationSeconds"), field("RoleSessionName")), ("900".into(), "volary-r1".into()));
        let sent: Value = serde_json::from_str(&field("Policy")).unwrap();
        assert_eq!(sent["Statement"][0]["Resource"], "arn:aws:s3:::shop\"files/*");
        assert!(!format!("{call:?}").contains("canary") && !call.body.unwrap().0.expose().contains("canary"));
        assert!(check(&role).is_ok() && check(&self::role(Some("{x"))).is_err());
    }

    #[test]
    fn a_session_is_read_from_its_answer_and_nothing_that_is_none() {
        let body = |key: &str| {
            Secret::new(format!(
                "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult>\
                 <AssumedRoleUser><Arn>arn:x</Arn></AssumedRoleUser><Credentials><AccessKeyId>ASIAEXAMPLE</AccessKeyId>\
                 <SecretAccessKey>{key}</SecretAccessKey><SessionToken>token/+=0123456789</SessionToken>\
                 <Expiration>2026-07-11T22:14:10Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"
            ))
        };
        match read(&body("secret/+=0123456789")) {
            Said::Value { kept: Kept { value: Minted::Aws { id, key, .. }, end: None }, until: Some(until) } => {
                assert_eq!((id.as_str(), key.0.expose().as_str()), ("ASIAEXAMPLE", "secret/+=0123456789"));
                assert_eq!(until, Moment(1_783_808_050_000));
            }
            _ => panic!("no session"),
        }
        for bad in ["", "a b c d e f g h", "&amp;0123456789", "<b>0123456789</b>", "line\nline\nline"] {
            assert!(matches!(read(&body(bad)), Said::Unknown(_)), "{bad}");
        }
        assert!(matches!(read(&Secret::new("<html>".to_owned())), Said::Unknown(_)));
    }
}
